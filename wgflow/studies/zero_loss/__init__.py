"""Separation property and convergence to zero loss."""
