"""Reports of a run: figures and their style, summaries, the page, the theorems along a run, live progress."""
