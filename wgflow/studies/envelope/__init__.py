"""Bounds of the adjoint; drawn beside other figures."""
