"""What an operator may be told of: a number for each kind of warning, error and alert, the same for ever.

Runs in: every process, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.

A line of the log ends in its code, `[PYFPM-417]`. docs/errors.md has for each: the line, cause, what pyfpm did, what to
do; `pyfpm explain 417` shows it. A number that was given up is not used again. The hundreds are areas:

    1  the configuration          4  a pool and its processes
    2  the start, the sockets     5  requests, and what workers report
    3  the master at work         6  logs

To add one: the next free number of its area here, its entry in docs/errors.md, and the call that says it.
tests/rules/test_catalogue.py holds the three in step.
"""

from __future__ import annotations


class Code(int):
    """A number of the catalogue."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"PYFPM-{int(self):03d}"


def codes() -> dict[str, Code]:
    """All there are, by name."""
    return {name: value for name, value in globals().items() if isinstance(value, Code)}


def marked(text: str, code: Code | None) -> str:
    """`text` with the code at the end of its first line, where it stands in the log, too."""
    if code is None:
        return text
    first, newline, rest = text.partition("\n")
    return f"{first} [{code}]{newline}{rest}"


SAID_BY_POOLS = (4, 5, 6)  # the areas of which a template or a worker may speak

# ── 1: the configuration ────────────────────────────────────────────────────────────────────────────────────────────

CONFIG_REFUSED = Code(100)
CONFIG_UNREADABLE = Code(101)
NO_POOL_DEFINED = Code(102)
BAD_SYNTAX = Code(103)
BAD_SECTION = Code(104)
UNKNOWN_DIRECTIVE = Code(105)
BAD_VALUE = Code(106)
MISSING_DIRECTIVE = Code(107)
BAD_INCLUDE = Code(108)
CONTRADICTION = Code(109)
BAD_LOG_FORMAT = Code(110)
SHARED_ADDRESS = Code(111)
UNKNOWN_ACCOUNT = Code(112)
NO_USER = Code(113)
POOL_AS_ROOT = Code(114)
NO_SUCH_FOLDER = Code(115)
UNWRITABLE_FILE = Code(116)
UNSAFE_PATH = Code(117)
BAD_SOCKET_PATH = Code(118)
SOCKET_OUT_OF_REACH = Code(119)
CANNOT_GIVE_SOCKET = Code(120)
LIMIT_TOO_HIGH = Code(121)
SETTINGS_TOO_LARGE = Code(122)
POOL_LOG_OUT_OF_REACH = Code(123)
BAD_INTERPRETER = Code(124)
APPLICATION_OUT_OF_REACH = Code(125)
PYFPM_OUT_OF_REACH = Code(126)
INCLUDE_MATCHES_NOTHING = Code(127)
WITHOUT_EFFECT = Code(128)
OWNER_IGNORED = Code(129)
MONITOR_AS_ROOT = Code(130)
SEEN_BY_STRANGERS = Code(131)
LIMIT_TOO_LOW = Code(132)

# ── 2: the start, the sockets ───────────────────────────────────────────────────────────────────────────────────────

START_FAILED = Code(200)
ALREADY_RUNNING = Code(201)
PID_FILE_LOCKED = Code(202)
PID_FILE_FAILED = Code(203)
MASTER_LIMITS = Code(204)
CANNOT_BIND = Code(205)
ADDRESS_IN_USE = Code(206)
CANNOT_RESOLVE = Code(207)
SEVERAL_ADDRESSES = Code(208)
STRANGE_SOCKET = Code(209)
SOCKET_NOT_GIVEN = Code(210)
NO_CONTROL_SOCKET = Code(211)
NOTHING_SERVES = Code(212)
NOT_SERVING_YET = Code(213)

# ── 3: the master at work ───────────────────────────────────────────────────────────────────────────────────────────

OUR_FAULT = Code(300)
RELOAD_REFUSED = Code(301)
POOL_RELOAD_REFUSED = Code(302)
RELOAD_UNTIMELY = Code(303)
RELOAD_TOO_SLOW = Code(304)
RELOAD_OVERTAKEN = Code(305)
RELOAD_CUT_SHORT = Code(306)
NO_SUCH_POOL = Code(307)
CHECK_FAILED = Code(308)
SYSTEM_REFUSED = Code(309)
UPGRADE_REFUSED = Code(310)
CANNOT_TAKE_OVER = Code(311)
CONTROL_REFUSED = Code(312)
CONTROL_NONSENSE = Code(313)
CONTROL_DEAF = Code(314)
CONTROL_FLOODED = Code(315)
MONITOR_DIED = Code(316)
CANNOT_START_MONITOR = Code(317)
MONITOR_BLIND = Code(318)
MASTER_NOT_FOUND = Code(319)

# ── 4: a pool and its processes ─────────────────────────────────────────────────────────────────────────────────────

CANNOT_LOAD = Code(400)
PROBE_FAILED = Code(401)
CANNOT_START_TEMPLATE = Code(402)
TEMPLATE_CANNOT = Code(403)
TEMPLATE_LATE = Code(404)
TEMPLATE_DIED = Code(405)
CANNOT_FORK = Code(406)
ORDER_LATE = Code(407)
WORKER_UNBORN = Code(408)
WORKER_LATE = Code(409)
WORKER_DIED_YOUNG = Code(410)
WORKER_DIED = Code(411)
WORKER_OUT_OF_MEMORY = Code(412)
WORKER_CUT_OFF = Code(413)
FAILED_TWICE = Code(414)
POOL_DOWN = Code(415)
STAND_IN = Code(416)
MAX_CHILDREN = Code(417)
PROCESS_MAX = Code(418)
EMERGENCY = Code(419)
UNCLEAN_IMPORT = Code(420)
NOT_OUR_LANGUAGE = Code(421)
FALSE_WORKER = Code(422)

# ── 5: requests, and what workers report ────────────────────────────────────────────────────────────────────────────

SLOW_REQUEST = Code(500)
REQUEST_OVER_TIME = Code(501)
OVER_TIME_STACKS = Code(502)
OVER_TIME_KILLED = Code(503)
REQUEST_FAILED = Code(504)
BROKEN_CONTRACT = Code(505)
BAD_REQUEST = Code(506)
BAD_CONNECTION = Code(507)
CLIENT_DISALLOWED = Code(508)
SENT_TOO_LATE = Code(509)
SIGNAL_TAKEN = Code(510)
SIGNALS_REPLACED = Code(511)
OUT_OF_DESCRIPTORS = Code(512)
DESCRIPTORS_CLOSED = Code(513)
FORKED_AND_RETURNED = Code(514)

# ── 6: logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LOG_NOT_OPENED = Code(600)
POOL_WITHOUT_LOG = Code(601)
LOG_NOT_REOPENED = Code(602)
LINES_LOST = Code(603)
OUTPUT_LEFT_OUT = Code(604)
SLOW_LOG_FAILED = Code(605)
ACCESS_LINE_FAILED = Code(606)
ACCESS_LOG_FAILED = Code(607)
