"""The study file: schema, tables, grid, and the folder of one run."""
