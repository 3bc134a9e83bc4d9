"""Distance to the limit in depth and width."""
