"""Vanilla and mean-field trainings of networks of images, compared in pairs."""
