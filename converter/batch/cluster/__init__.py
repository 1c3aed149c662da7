"""A batch on a Dask cluster: the same plan and the same orders as here, carried out by its workers.

Dask decides what runs where and when, moves what a lost worker had to others, and drops what is
cancelled. Owns what is particular to our tasks: how workers' stores hang together, what is told of
a task while it runs, and that a result is the same bytes as elsewhere.
"""
