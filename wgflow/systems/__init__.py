"""Systems: residual measures, networks as measures over features, and networks of images."""
