"""Studies: their schema, their members, and the command that runs them."""
