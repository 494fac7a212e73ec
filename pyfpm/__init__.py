"""pyfpm: a FastCGI process manager for Python, after PHP-FPM."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfpm.errors import RequestTimeout as RequestTimeout


def __getattr__(name: str) -> object:
    """What an application may catch; nothing is imported before somebody asks."""
    if name == "RequestTimeout":
        from pyfpm import errors

        return errors.RequestTimeout
    raise AttributeError(f"module 'pyfpm' has no attribute {name!r}")
