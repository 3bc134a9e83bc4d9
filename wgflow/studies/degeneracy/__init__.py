"""Whether the units of a layer become one as layers widen, for two starts of the weights."""
