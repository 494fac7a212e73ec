"""The template of a pool, as the pool's user: loads the application once, forks on order, serves nobody."""
