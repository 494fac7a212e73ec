"""How to fail: whose fault it was, where, and what to try.

Runs in: every process, Python 3.9 and up.   Pure: no system call, no clock, no log.
The only file that subclasses exceptions.
"""

from __future__ import annotations

from pyfpm import catalogue

# What a shell gets, as in sysexits.h; fork.py has 70, for what broke inside.
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69  # no master runs
EXIT_LATER = 75  # EX_TEMPFAIL: not now
EXIT_NOT_PERMITTED = 77
EXIT_CONFIG = 78


class PyfpmError(Exception):
    """Anything pyfpm itself raises on purpose."""


class PeerError(PyfpmError):
    """The front server, or whoever connected, sent bytes that the protocol does not allow."""


class PeerGone(PyfpmError):
    """The peer closed, aborted or fell silent while we needed it: nobody is left to answer."""


class ApplicationError(PyfpmError):
    """The application broke its contract (PEP 3333), or could not be loaded; `code` tells which."""

    def __init__(self, message: str, code: catalogue.Code = catalogue.BROKEN_CONTRACT) -> None:
        super().__init__(message)
        self.code = code


class RequestTimeout(BaseException):
    """The request has used up its time (request_terminate_timeout). Raised in the application, as pyfpm.RequestTimeout.

    No Exception, so that what is written against errors of the application's own does not swallow it.
    """


class MessageError(PyfpmError):
    """Bytes between master, template, worker and operator that are no message of ours."""


class StartError(PyfpmError):
    """The daemon cannot start."""

    def __init__(self, code: catalogue.Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoMaster(PyfpmError):
    """The running master cannot be found, reached or waited for. `exit_code` is what the shell gets."""

    def __init__(self, message: str, exit_code: int = EXIT_UNAVAILABLE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Problem:
    """One thing wrong with a configuration: where, what, why, and what to try.

    `where` is "file:line", a file, or "" when no place can be named; `subject` is the directive or section. `pool` is
    set where it is that pool's own trouble, which must not stop the others.
    """

    __slots__ = ("advice", "code", "pool", "reason", "subject", "where")

    def __init__(
        self, code: catalogue.Code, where: str, subject: str, reason: str, advice: str = "", pool: str = ""
    ) -> None:
        self.code = code
        self.pool = pool
        self.where = where
        self.subject = subject
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.subject, self.reason) if part)
        return f"{head}\n    {self.advice}" if self.advice else head

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


class ConfigError(PyfpmError):
    """A configuration that cannot be used. `problems` has every fault found, not only the first."""

    def __init__(self, problems: list[Problem], readable: object = None) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
        self.readable = readable  # a Configuration of what can be read of it, to look for further problems there
