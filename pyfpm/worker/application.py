"""From "module:callable" to the callable, and what to say when that fails.

Runs in: template, or a worker where the application is not preloaded; Python 3.9 and up.
Fails by: ApplicationError whose text is one line of reason, then the traceback.
"""

from __future__ import annotations

import importlib
import os

from pyfpm import catalogue
from pyfpm.errors import ApplicationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What is below it is ours: as this process names it, which in a chroot may be another name than outside.
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_OF_NO_INTEREST = (PACKAGE, importlib.__file__, "<frozen importlib")


def load_application(target: str) -> Callable[..., Any]:
    """The WSGI callable that `target` ("package.module:attribute.attribute") names."""
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except BaseException as error:
        # An import may do anything, sys.exit() included: all of it is this application's failure and no one else's.
        reason = f"cannot load {target}: {describe(error)}\n{format_traceback(error)}"
        raise ApplicationError(reason.rstrip(), catalogue.CANNOT_LOAD) from error
    if not callable(found):
        reason = f"cannot load {target}: {path} is {type(found).__name__}, which cannot be called"
        raise ApplicationError(reason, catalogue.CANNOT_LOAD)
    return found  # type: ignore[no-any-return]


def describe(error: BaseException) -> str:
    """An exception in one line, its first line if it has several."""
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:
        text = "(its str() failed)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def tell(error: BaseException) -> str:
    """What happened and where. The exception is the application's, and its methods and properties may raise."""
    try:
        text = describe(error)
        return text if isinstance(error, ApplicationError) else f"{text}\n{format_traceback(error)}"
    except BaseException as second:
        return f"{type(error).__name__} (which cannot be shown: {type(second).__name__})"


def format_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of pyfpm and of the import system: they explain nothing."""
    import traceback  # costs 1.7 MB, so only a process in trouble pays for it

    whole = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = whole
    while link is not None:
        link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(_OF_NO_INTEREST)]
        link = link.__cause__ or link.__context__
    if not whole.stack and not whole.__cause__ and not whole.__context__:
        return ""  # nothing that describe() has not said
    return "".join(whole.format()).rstrip()
