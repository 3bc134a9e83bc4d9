"""Deep networks as ensembles of shallow ones."""
