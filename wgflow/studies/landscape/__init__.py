"""Study landscape: reduction, figure and requirements."""
