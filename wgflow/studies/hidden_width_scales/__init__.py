"""Study hidden_width_scales: reduction, figure and requirements."""
