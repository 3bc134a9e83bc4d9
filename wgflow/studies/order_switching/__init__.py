"""Jumps of E where particles change their order in depth."""
