"""Codes of activations and losses in compiled kernels."""

ACTIVATION_CODES = {"linear": 0, "tanh": 1, "relu": 2, "squared_relu": 3, "regularised_relu": 4, "gelu": 5, "sin": 6}
OWN = 7  # an activation of the user's, called through a pointer
LOSS_CODES = {"squared": 0, "cross_entropy": 1}  # the other losses compute in NumPy
NOT_COMPILED = (
    "a block, activation or loss of your own, the loss huber or logistic, or a measuring function that is not linear,"
)
STORED_SLOPES = frozenset(
    {3, 4, 5, 6, OWN}
)  # activations whose slope is stored; for the others the value determines it
