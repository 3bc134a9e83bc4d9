"""Figure 1 of Fang, Lee, Yang and Zhang (COLT 2021) on its own protocol, scanned over the constants not printed."""
