"""Theorem 8 along runs of feature networks: its assumptions, its hypotheses and its conclusion."""
