"""Study sizing: reduction, figure and requirements."""
