"""Study depth_width: reduction, figure and requirements."""
