"""pyfpm: a FastCGI process manager for Python, after PHP-FPM."""

__version__ = "0.1.0"
