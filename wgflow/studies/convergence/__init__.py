"""Convergence in the number of particles N."""
