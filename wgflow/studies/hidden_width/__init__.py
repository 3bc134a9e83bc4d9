"""Study hidden_width: reduction, figure and requirements."""
