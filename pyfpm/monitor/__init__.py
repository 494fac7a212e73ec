"""The monitor: answers status requests of all pools, from scoreboards that it can only read; runs nothing else."""
