"""Descent from full and degenerate supports."""
