"""Members of a study on a Dask cluster: where it is, who may work in it, the sweep, and files where no disk is shared.

Nothing here imports ``distributed`` before a cluster is asked for.
"""
