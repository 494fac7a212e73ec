"""A worker of a pool, as the pool's user: one request at a time."""
