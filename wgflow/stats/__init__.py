"""Statistics of studies: convergence rates, scaling laws, equivalence, exceedance probabilities."""
