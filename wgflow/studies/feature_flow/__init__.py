"""The neural feature flow compared with gradient descent."""
