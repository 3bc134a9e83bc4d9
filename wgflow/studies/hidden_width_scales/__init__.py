"""Effect of the scale of the output layers."""
