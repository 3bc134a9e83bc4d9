"""Systems: residual measures, networks as measures over features, and image networks."""
