"""Distance of gradient descent to the neural feature flow, against width and learning rate."""
