"""Study of the decaying regulariser."""
