"""Statistics of studies: convergence rates, scaling laws, trends, exceedance probabilities."""
