"""Study ensemble: reduction, figure and requirements."""
