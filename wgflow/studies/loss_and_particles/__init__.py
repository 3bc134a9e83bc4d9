"""Study loss_and_particles: reduction, figure and requirements."""
