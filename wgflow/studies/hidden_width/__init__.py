"""Output errors of deep residual networks over depth and hidden width."""
