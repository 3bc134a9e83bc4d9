"""Study convergence: reduction, figure and requirements."""
