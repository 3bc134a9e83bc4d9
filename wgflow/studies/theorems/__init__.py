"""Study theorems: reduction, figure and requirements."""
