"""Study switching: reduction, figure and requirements."""
