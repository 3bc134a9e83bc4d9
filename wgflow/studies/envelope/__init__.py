"""Study envelope: reduction, figure and requirements."""
