"""The master process: root, or whoever starts pyfpm. Reads configuration, binds, counts, decides."""
