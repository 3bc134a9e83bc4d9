"""The theorems as computations: pure functions of an energy and a measure, each citing its theorem."""
