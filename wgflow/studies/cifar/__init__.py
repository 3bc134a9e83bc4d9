"""Study cifar: reduction, figure and requirements."""
