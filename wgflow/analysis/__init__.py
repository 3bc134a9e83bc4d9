"""Reductions of trajectories: tables, jumps, figures. Reads files only; nothing here can start a run."""
