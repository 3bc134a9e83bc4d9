"""Losses of all runs and the particle paths of one; drawn for several studies."""
