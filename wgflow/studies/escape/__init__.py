"""Study escape: reduction, figure and requirements."""
