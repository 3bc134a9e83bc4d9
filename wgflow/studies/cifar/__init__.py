"""Vanilla and mean-field training runs of image networks, compared in pairs."""
