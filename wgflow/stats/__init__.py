"""Statistics of studies: convergence rates, scaling laws, equivalence, exceedance probabilities. Numbers in, numbers out."""
