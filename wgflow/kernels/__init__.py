"""Backends: energies and gradients of a network of layers, in NumPy, compiled for the CPU, or on a GPU."""
