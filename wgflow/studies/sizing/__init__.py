"""Sizes that meet a target P(E > eps) <= eta."""
