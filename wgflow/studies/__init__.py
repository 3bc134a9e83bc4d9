"""Studies: for each, what it reduces its trajectories to, its figures, and what these need of the study file."""
