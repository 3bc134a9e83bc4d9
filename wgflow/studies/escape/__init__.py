"""Escape from stationary points by transport of mass."""
