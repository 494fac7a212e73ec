"""THE table: every directive of the configuration, each a field of the settings object that will hold its value.

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at; readers and rules refuse what is wrong before an object is made.

No other file spells a directive's name. Parser, bounds, -tt, docs/configuration.md, the man page, the sample files
and the settings that a template receives all come from here. The order is PHP-FPM's own; pyfpm's directives stand
beside the ones they belong to.
"""

# ruff: noqa: RUF009  directive() makes dataclass fields, as dataclasses.field() does

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from pyfpm.catalogue import Code
from pyfpm.config.directive import Directive, Origin, Settings, Shape, directive, directives_of
from pyfpm.config.values import (
    ABSOLUTE_PATH,
    ADDRESS,
    APPLICATION,
    CHROOT,
    CLIENTS,
    CORE_LIMIT,
    ENVIRONMENT_VALUE,
    FILE_LIMIT,
    LOG_FILE,
    MEMORY_LIMIT,
    MODE,
    MOUNT,
    NAMES,
    PATH,
    PATH_LIST,
    PATH_OR_NONE,
    PING_PATH,
    PING_RESPONSE,
    POOL_LOG_FILE,
    PROBE,
    REAL_TIME_SIGNAL,
    STATUS_PATH,
    SYSLOG_FACILITY,
    TEXT,
    URI_PATH,
    YES_OR_NO,
    Address,
    Kind,
    MemoryLimit,
    duration,
    number,
    one_of,
)

OWN = Origin.OWN
GLOBAL_SECTION = "global"
STATE_FOLDER = "/var"  # relative paths of the daemon's own files begin here unless -p is given
DEFAULT_ERROR_LOG = "log/pyfpm.log"
PRIORITY = number(-19, 20, refusal="must be included into [-19,20]")

INCLUDE = Directive(
    attribute="",
    name="include",
    kind=Kind(TEXT.read, TEXT.show, "a path or a pattern with `*`, `?` and `[…]`", natives=(list,)),
    doc="Read more files here, in the order of their names. May stand in any section and any number of times.",
    example="/etc/pyfpm.d/*.conf",
    sample="pyfpm.d/*.conf",
    differs="what an included file opens ends with that file: the lines after the include belong to the section that "
    "the include is in. Relative patterns begin at the prefix of -p, or at the folder of the main file.",
)

# Not unknown to whoever comes from PHP-FPM, but nothing that a Python application could have.
PHPS_OWN = ("php_value", "php_flag", "php_admin_value", "php_admin_flag", "security.limit_extensions")


@dataclass(frozen=True, kw_only=True)
class GlobalSettings(Settings):
    """The daemon's own settings: the section [global]."""

    pid: str | None = directive(
        "pid",
        PATH,
        "The file that holds the process id of the master while it runs.",
        base=STATE_FOLDER,
        default_words="none",
        example="/run/pyfpm/pyfpm.pid",
    )
    control: str | None = directive(
        "control",
        PATH_OR_NONE,
        "The socket where `pyfpm stop`, `reload`, `status` and the other verbs find the running master. Everybody may "
        "connect; root and the master's user may ask for everything, the user of a pool for what concerns it alone. "
        "A change takes effect at the next start.",
        origin=OWN,
        base=STATE_FOLDER,
        default_words="beside the pid file, with `.sock` for its ending; none without a pid file",
        example="/run/pyfpm/pyfpm.sock",
    )
    error_log: str | None = directive(
        "error_log",
        LOG_FILE,
        "The log of the daemon and of what its pools' workers print. `syslog`: to /dev/log, each line with the "
        "priority of its level.",
        base=STATE_FOLDER,
        default_words=f"`{STATE_FOLDER}/{DEFAULT_ERROR_LOG}`; stderr when not started as root",
        differs="who is not root has no right to /var/log, so without this directive the log goes to stderr then. To "
        "syslog, the priority is that of the message, where it is that of log_level there.",
        example="/var/log/pyfpm.log",
    )
    syslog_ident: str = directive(
        "syslog.ident",
        TEXT,
        "The name that stands before each line in the log of syslog.",
        default="pyfpm",
        differs="the default is php-fpm there.",
    )
    syslog_facility: int = directive(
        "syslog.facility",
        SYSLOG_FACILITY,
        "What syslog sorts the lines by.",
        default=3,
    )
    log_format: str = directive(
        "log_format",
        one_of("text", "json"),
        "How events look in the error log. `text`: PHP-FPM's lines. `json`: a JSON object for each event, a traceback "
        "included.",
        origin=OWN,
        default="text",
    )
    log_buffering: bool = directive(
        "log_buffering",
        YES_OR_NO,
        "Hold what a worker prints until its line is complete.",
        default=True,
    )
    log_level: str = directive(
        "log_level",
        one_of("debug", "notice", "warning", "error", "alert", aliases={"warn": "warning"}),
        "Messages below this level are not logged.",
        default="notice",
    )
    log_limit: int = directive(
        "log_limit",
        number(512, refusal="log_limit must be greater than 512"),
        "The longest line in the log in bytes; what a worker prints is wrapped there.",
        default=1024,
    )
    emergency_restart_interval: float = directive(
        "emergency_restart_interval",
        duration(zero=True),
        "The time in which emergency_restart_threshold counts; 0 for never.",
        default=0.0,
        differs="it is counted for each pool on its own, and that pool alone is reloaded.",
        example="1m",
    )
    emergency_restart_threshold: int = directive(
        "emergency_restart_threshold",
        number(0),
        "So many workers of a pool that die of SIGSEGV or SIGBUS within emergency_restart_interval make the pool start "
        "anew: its template too, for what is broken may be in there. 0 for never.",
        default=0,
        differs="it is counted for each pool on its own, and that pool alone is reloaded.",
        example="10",
    )
    process_control_timeout: float = directive(
        "process_control_timeout",
        duration(zero=True),
        "How long workers have to obey a signal of the master before they are killed.",
        default=30.0,
        differs="the default is 0 there, which cuts off requests in hand.",
    )
    process_max: int = directive(
        "process.max",
        number(0, refusal="process_max can't be negative"),
        "The most workers of all pools together; 0 for no limit beyond that of each pool.",
        default=0,
        example="128",
    )
    process_priority: int | None = directive(
        "process.priority",
        PRIORITY,
        "The nice value of the master; ignored when not started as root.",
        default_words="unchanged",
        example="-5",
    )
    daemonize: bool = directive(
        "daemonize",
        YES_OR_NO,
        "Go to the background once the pools serve.",
        default=False,
        differs="the default is yes there; service managers and containers want the foreground.",
    )
    rlimit_files: int = directive(
        "rlimit_files",
        FILE_LIMIT,
        "The limit of open files of the master, and of pools that have none of their own. A worker takes up to five of "
        "the master's.",
        default=0,
        example="4096",
    )
    rlimit_core: int = directive(
        "rlimit_core", CORE_LIMIT, "The limit of the size of core files of the master.", default=0, example="unlimited"
    )
    status_listen: Address | None = directive(
        "status_listen",
        ADDRESS,
        "Where the monitor answers for all pools, over HTTP and FastCGI: the status page, and `/metrics` for "
        "Prometheus. Whoever can connect sees what every pool is doing: choose an address of the loopback interface, "
        "or a unix socket, which only root and the user of the master can use.",
        origin=OWN,
        default_words="none",
        example="127.0.0.1:9001",
    )
    status_user: str = directive(
        "status_user",
        TEXT,
        "The user that the monitor runs as: a name or an id, best one that no pool has. Ignored when not started as "
        "root.",
        origin=OWN,
        default="nobody",
        example="pyfpm-monitor",
    )


@dataclass(frozen=True, kw_only=True)
class PoolSettings(Settings):
    """The settings of one pool: a section with the pool's name."""

    name: str

    prefix: str | None = directive(
        "prefix",
        PATH,
        "The folder where relative paths in this pool begin.",
        default_words="that of -p, or the folder of the main configuration file",
        example="/srv/$pool",
    )

    # ── the application ─────────────────────────────────────────────────────────────────────────────────────────────
    app: str = directive(
        "app",
        APPLICATION,
        "The WSGI application: the module to import and the callable in it, looked up from chdir and pythonpath.",
        origin=OWN,
        missing="no application has been defined",
        example="mysite.wsgi:application",
        sample="wsgiref.simple_server:demo_app",
        for_template=True,
    )
    python: str | None = directive(
        "python",
        PATH,
        "The pool's interpreter, CPython 3.9 or later. It is started as the pool's user, never as root.",
        origin=OWN,
        default_words="the interpreter that runs pyfpm",
        example="/usr/bin/python3.11",
    )
    virtualenv: str | None = directive(
        "virtualenv",
        PATH,
        "The virtual environment whose interpreter the pool uses; instead of naming the interpreter.",
        origin=OWN,
        default_words="none",
        example="/srv/mysite/venv",
    )
    pythonpath: tuple[str, ...] = directive(
        "pythonpath",
        PATH_LIST,
        "More folders to import from, after chdir.",
        origin=OWN,
        default=(),
        default_words="none",
        example="/srv/mysite/src:/srv/shared",
        for_template=True,
    )
    mount: str = directive(
        "mount",
        MOUNT,
        "The path below which the application lives: its SCRIPT_NAME. The rest of a request's path is its PATH_INFO.",
        origin=OWN,
        default="",
        default_words="empty",
        example="/shop",
        for_template=True,
    )
    preload: str = directive(
        "preload",
        one_of("auto", "yes", "no"),
        "Import the application once and fork workers from it. `auto` does so unless the import leaves threads, "
        "connections or child processes behind, which would not survive a fork.",
        origin=OWN,
        default="auto",
        for_template=True,
    )

    # ── who ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    user: str | None = directive(
        "user",
        TEXT,
        "The user that the pool's processes run as: a name or an id. Mandatory when started as root.",
        default_words="none",
        example="www-data",
        sample="www-data",
    )
    group: str | None = directive(
        "group",
        TEXT,
        "The group that the pool's processes run as: a name or an id.",
        default_words="the user's group",
        example="www-data",
    )

    # ── where requests arrive ───────────────────────────────────────────────────────────────────────────────────────
    listen: Address = directive(
        "listen",
        ADDRESS,
        "The address that the front server connects to. A port alone means every interface, IPv6 and IPv4.",
        missing="no listen address have been defined!",
        example="/run/pyfpm/www.sock",
        sample="127.0.0.1:9000",
        toml_head="address",
    )
    listen_backlog: int = directive(
        "listen.backlog",
        number(-1),
        "How many connections may wait to be accepted; -1 for as many as the system allows (net.core.somaxconn).",
        default=-1,
    )
    listen_acl_users: tuple[str, ...] = directive(
        "listen.acl_users",
        NAMES,
        "Users that may connect to a unix socket, by an access control list. Owner and group are then not changed.",
        default=(),
        default_words="none",
        example="www-data,caddy",
    )
    listen_acl_groups: tuple[str, ...] = directive(
        "listen.acl_groups",
        NAMES,
        "Groups that may connect to a unix socket, by an access control list. Owner and group are then not changed.",
        default=(),
        default_words="none",
        example="www-data",
    )
    listen_owner: str | None = directive(
        "listen.owner",
        TEXT,
        "The owner of a unix socket: a name or an id. A name sets the group too when none is given.",
        default_words="the user of the master",
        example="www-data",
    )
    listen_group: str | None = directive(
        "listen.group",
        TEXT,
        "The group of a unix socket: a name or an id.",
        default_words="the owner's group",
        example="www-data",
    )
    listen_mode: int = directive("listen.mode", MODE, "The permissions of a unix socket.", default=0o660)
    listen_allowed_clients: tuple[str, ...] = directive(
        "listen.allowed_clients",
        CLIENTS,
        "Front servers that may connect over TCP; others are dropped.",
        default=(),
        default_words="everybody",
        differs="networks are understood, spaces are allowed, a wrong address is an error at start, and an empty value "
        "is an error too.",
        example="127.0.0.1, ::1, 10.0.0.0/8",
        for_template=True,
    )

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────
    process_priority: int | None = directive(
        "process.priority",
        PRIORITY,
        "The nice value of the pool's processes; ignored when not started as root.",
        default_words="that of the master",
        example="5",
    )
    process_dumpable: bool = directive(
        "process.dumpable",
        YES_OR_NO,
        "Let the pool's processes be traced by their own user and leave core files (PR_SET_DUMPABLE).",
        default=False,
        for_template=True,
    )
    pm: str = directive(
        "pm",
        one_of("static", "dynamic", "ondemand", noun="process manager"),
        "How the number of workers is chosen, up to pm.max_children. `static`: always that many. `dynamic`: as many as "
        "keep pm.min_spare_servers idle. `ondemand`: none until a request comes.",
        missing="the process manager is missing (static, dynamic or ondemand)",
        example="static",
        sample="dynamic",
        toml_head="mode",
    )
    pm_max_children: int = directive(
        "pm.max_children",
        number(1, refusal="pm.max_children must be a positive value"),
        "The most workers, so the most requests that are served at the same time.",
        missing="pm.max_children must be a positive value",
        example="5",
        sample="5",
    )
    pm_start_servers: int = directive(
        "pm.start_servers",
        number(0),
        "How many workers a `dynamic` pool starts with.",
        default=0,
        default_words="half way between pm.min_spare_servers and pm.max_spare_servers",
        example="2",
        sample="2",
    )
    pm_min_spare_servers: int = directive(
        "pm.min_spare_servers",
        number(0),
        "A `dynamic` pool with fewer idle workers than this starts more.",
        default=0,
        default_words="none; `dynamic` needs it",
        example="1",
        sample="1",
    )
    pm_max_spare_servers: int = directive(
        "pm.max_spare_servers",
        number(0),
        "A `dynamic` pool with more idle workers than this lets some go.",
        default=0,
        default_words="none; `dynamic` needs it",
        example="3",
        sample="3",
    )
    pm_max_spawn_rate: int = directive(
        "pm.max_spawn_rate",
        number(1, refusal="pm.max_spawn_rate must be a positive value"),
        "The most workers that a `dynamic` pool starts at once.",
        default=32,
        differs="the pool grows when it needs to and not once a second, so this is no longer a number per second.",
    )
    pm_process_idle_timeout: float = directive(
        "pm.process_idle_timeout",
        duration(zero=False),
        "A worker of an `ondemand` pool that has been idle for so long, since the end of its last request, leaves.",
        default=10.0,
    )
    pm_template_idle_timeout: float = directive(
        "pm.template_idle_timeout",
        duration(zero=True),
        "An `ondemand` pool that has had no worker for so long gives up its template, and with it the loaded "
        "application; the next request starts it again and waits for that. 0 to keep it.",
        origin=OWN,
        default=0.0,
        example="1h",
    )
    pm_max_requests: int = directive(
        "pm.max_requests",
        number(0),
        "A worker that has served so many requests is replaced; 0 for never.",
        default=0,
        example="500",
        for_template=True,
    )
    pm_max_requests_jitter: int = directive(
        "pm.max_requests_jitter",
        number(0),
        "Each worker serves up to so many requests more than pm.max_requests, drawn by lot, so that not all are "
        "replaced at the same time.",
        origin=OWN,
        default=0,
        example="50",
        for_template=True,
    )
    pm_max_memory: MemoryLimit = directive(
        "pm.max_memory",
        MEMORY_LIMIT,
        "A worker that holds more memory than this after a request is replaced; 0 for no limit. `pss` counts pages "
        "shared with other processes in part, `rss` in full.",
        origin=OWN,
        default=MemoryLimit(),
        example="256M pss",
        for_template=True,
    )
    pm_max_lifetime: float = directive(
        "pm.max_lifetime",
        duration(zero=True),
        "A worker of this age is replaced, after the request that it serves; 0 for never.",
        origin=OWN,
        default=0.0,
        example="1d",
    )
    pm_status_path: str | None = directive(
        "pm.status_path",
        STATUS_PATH,
        "The path of the status page: how the pool is, in the formats that `?xml`, `?json` and `?openmetrics` name, or "
        "as plain text; with `full`, each worker too. `?html` is a dashboard for people, which keeps itself current. A "
        "worker of the pool answers it. Keep the public from it in the front server.",
        default_words="none",
        differs="it is matched however the front server passes the path, and needs no SCRIPT_FILENAME. What is not "
        "known is shown as unknown, and there are more fields behind those of PHP-FPM. `html` is no table of fields. "
        "`openmetrics` has metrics of pyfpm's own names; with `compat=phpfpm` they have PHP-FPM's names.",
        example="/status",
        for_template=True,
    )
    pm_status_listen: Address | None = directive(
        "pm.status_listen",
        ADDRESS,
        "Where the monitor answers for this pool, also while every worker is busy: status and ping page over FastCGI "
        "and HTTP, and `/metrics` for Prometheus. A unix socket has the owner, the permissions and the access control "
        "list that `listen` has; listen.allowed_clients holds for TCP.",
        default_words="none",
        differs="no pool of its own answers there, and nothing else is run. Over FastCGI every path but that of the "
        "ping page and `/metrics` is the status page; over HTTP it is `/`, `/status` and pm.status_path.",
        example="/run/pyfpm/www.status.sock",
    )
    ping_path: str | None = directive(
        "ping.path",
        PING_PATH,
        "The path of the ping page, which only tells that the pool answers. A worker of the pool answers it, and not "
        "the application.",
        default_words="none",
        example="/ping",
        for_template=True,
    )
    ping_response: str = directive(
        "ping.response",
        PING_RESPONSE,
        "What the ping page says.",
        default="pong",
        for_template=True,
    )
    pm_fail_fast_timeout: float = directive(
        "pm.fail_fast_timeout",
        duration(zero=True),
        "A pool that has had no worker for so long because none can be started answers requests with 503 and "
        "Retry-After until one can; 0 to let them wait.",
        origin=OWN,
        default=10.0,
    )
    spawn_timeout: float = directive(
        "spawn_timeout",
        duration(zero=False),
        "A template or worker that is not ready by then is given up: killed, logged, and started again.",
        origin=OWN,
        default=60.0,
    )
    reload_timeout: float = directive(
        "reload_timeout",
        duration(zero=False),
        "A new generation that is not ready by then is refused, and the old one serves on.",
        origin=OWN,
        default=60.0,
    )
    reload_probe: str = directive(
        "reload_probe",
        PROBE,
        "A request that the first worker of a new generation must answer with 2xx or 3xx before a worker of the old "
        "one leaves; otherwise the reload is refused. With a host for applications that mind theirs.",
        origin=OWN,
        default="",
        default_words="none",
        example="//www.example.org/health?deep=1",
        for_template=True,
    )
    reload_surge: int = directive(
        "reload_surge",
        number(1),
        "How many workers beyond pm.max_children a reload may have at a time, those that finish a request aside.",
        origin=OWN,
        default=1,
    )

    error_log: str | None = directive(
        "error_log",
        POOL_LOG_FILE,
        "A log of the pool's own: what its processes say and print goes there and not to the log of the daemon; what "
        "the daemon says of the pool goes to both. A new file belongs to the pool's user.",
        origin=OWN,
        default_words="none; all of it goes to the log of the daemon",
        example="/var/log/pyfpm/$pool.log",
    )

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────
    access_log: str | None = directive(
        "access.log",
        PATH,
        "A file with one line for each request.",
        default_words="none",
        example="log/$pool.access.log",
    )
    access_format: str = directive(
        "access.format",
        TEXT,
        "What a line of the access log holds: text with `%` codes as PHP-FPM has them, or `json` for a JSON object.",
        default='%R - %u %t "%m %r" %s',
        differs="pyfpm's own are `json`, `%w` (time in the queue), `%F` (until the first byte of the answer) and `%c` "
        "(CPU time); these three take the units of `%d`.",
        example='"%R - %u %t \\"%m %r%Q%q\\" %s %{milliseconds}dms"',
        for_template=True,
    )
    access_suppress_path: tuple[str, ...] = directive(
        "access.suppress_path",
        URI_PATH,
        "Successful GET and HEAD requests of exactly this path, without a query, are not logged. May be repeated.",
        shape=Shape.LIST,
        default=(),
        default_words="none",
        example="/health",
        for_template=True,
    )
    slowlog: str | None = directive(
        "slowlog",
        PATH,
        "The file where a slow request leaves the stacks of all threads of its worker. It is opened for each entry, by "
        "the user of the master; its folder must not belong to the pool.",
        default_words="none",
        example="log/$pool.slow.log",
    )
    request_slowlog_timeout: float = directive(
        "request_slowlog_timeout",
        duration(zero=True),
        "A request that takes longer leaves an entry in slowlog, once; 0 for never.",
        default=0.0,
        differs="fractions of a second are allowed; nothing is traced or stopped, the worker writes the stacks itself.",
        example="5s",
    )
    request_slowlog_trace_depth: int = directive(
        "request_slowlog_trace_depth",
        number(1, refusal="request_slowlog_trace_depth value must be greater than 0"),
        "The most calls shown of each thread's stack, the most recent ones.",
        default=20,
    )
    slowlog_signal: int = directive(
        "slowlog_signal",
        REAL_TIME_SIGNAL,
        "The signal that makes a worker write its stacks: for the slow log, before a request is ended, and for "
        "`pyfpm stack`. Choose another one if the application uses this one itself. With `none` there are no stacks.",
        origin=OWN,
        default=8,
        example="SIGRTMIN+12",
    )
    request_terminate_timeout: float = directive(
        "request_terminate_timeout",
        duration(zero=True),
        "A request that takes longer is ended: its stacks are logged, `pyfpm.RequestTimeout` is raised in it and its "
        "client gets 504; if that does not help, its worker is killed. 0 for never.",
        default=0.0,
        differs="it is exact to a tenth of a second, an idle kept connection is never meant, and workers that do not "
        "obey are killed.",
        example="30s",
        for_template=True,
    )
    request_terminate_grace: float = directive(
        "request_terminate_grace",
        duration(zero=True),
        "The time between the exception of request_terminate_timeout and the end of a worker that does not obey it; 0 "
        "to kill it at once.",
        origin=OWN,
        default=3.0,
    )
    request_terminate_timeout_track_finished: bool = directive(
        "request_terminate_timeout_track_finished",
        YES_OR_NO,
        "Let request_terminate_timeout hold, too, for what a request still does after `pyfpm.finish_request`.",
        default=False,
    )
    request_queue_timeout: float = directive(
        "request_queue_timeout",
        duration(zero=True),
        "A request that has waited longer until a worker takes it up gets 503 and is never run; 0 to let all wait. The "
        "time is from the front server's stamp, REQUEST_START or X-Request-Start, or else from the listen queue.",
        origin=OWN,
        default=0.0,
        example="10s",
        for_template=True,
    )
    request_head_timeout: float = directive(
        "request_head_timeout",
        duration(zero=False),
        "How long a new connection may take to send the first bytes and the parameters of its request.",
        origin=OWN,
        default=5.0,
        for_template=True,
    )
    request_body_timeout: float = directive(
        "request_body_timeout",
        duration(zero=False),
        "The longest silence of the front server in the middle of a request's body.",
        origin=OWN,
        default=60.0,
        for_template=True,
    )
    request_send_timeout: float = directive(
        "request_send_timeout",
        duration(zero=False),
        "The longest time without the front server taking any bytes of the answer.",
        origin=OWN,
        default=60.0,
        for_template=True,
    )
    keepalive_timeout: float = directive(
        "keepalive_timeout",
        duration(zero=False),
        "How long a kept connection may be idle before it is closed.",
        origin=OWN,
        default=75.0,
        for_template=True,
    )

    # ── limits, places, environment ─────────────────────────────────────────────────────────────────────────────────
    rlimit_files: int = directive(
        "rlimit_files",
        FILE_LIMIT,
        "The limit of open files of each process of the pool.",
        default=0,
        example="1024",
        for_template=True,
    )
    rlimit_core: int = directive(
        "rlimit_core",
        CORE_LIMIT,
        "The limit of the size of core files of each process of the pool.",
        default=0,
        example="unlimited",
        for_template=True,
    )
    chroot: str | None = directive(
        "chroot",
        CHROOT,
        "The folder that the pool's processes take for `/`; ignored when not started as root. Interpreter, chdir, "
        "pythonpath and pyfpm itself are then looked up inside it.",
        default_words="none",
        example="/srv/jail",
    )
    chdir: str | None = directive(
        "chdir",
        ABSOLUTE_PATH,
        "The working directory of the pool's processes, and the first place to import from.",
        default_words="unchanged; `/` with chroot",
        example="/srv/mysite",
        for_template=True,
    )
    catch_workers_output: bool = directive(
        "catch_workers_output",
        YES_OR_NO,
        "Send what workers print, on stdout and stderr, to the error log.",
        default=True,
        differs="the default is no there; a Python application logs on stderr, and its last words are worth having.",
    )
    decorate_workers_output: bool = directive(
        "decorate_workers_output",
        YES_OR_NO,
        "Put time, pool and process id before each line that a worker prints.",
        default=True,
    )
    clear_env: bool = directive(
        "clear_env",
        YES_OR_NO,
        "Keep the environment of the master from the pool; only `env[]` is set then.",
        default=True,
        for_template=True,
    )
    env: dict[str, str] = directive(
        "env",
        ENVIRONMENT_VALUE,
        "A variable of the application's environment. A value that is `$NAME` and nothing else is taken from the "
        "environment of the master.",
        shape=Shape.KEYED,
        default_words="`USER` and `HOME` of the pool's user",
        differs="words such as `on` and `no` stay as written, empty values are allowed, and the last declaration of a "
        "variable wins.",
        example="production",
        for_template=True,
    )

    def template_record(self) -> dict[str, object]:
        """What a template is told about its pool, fit for JSON: by attribute name, and the pool's name as "pool"."""
        record: dict[str, object] = {"pool": self.name}
        for row in directives_of(PoolSettings):
            if row.for_template:
                record[row.attribute] = _plain(getattr(self, row.attribute))
        return record


def _plain(value: Any) -> object:
    """A value as JSON would give it back."""
    if hasattr(value, "_asdict"):  # a record, and not just a list
        record: dict[str, object] = value._asdict()
        return record
    return list(value) if isinstance(value, tuple) else value


Remark = tuple[Code, str]  # what is odd and stops no start


class Configuration(NamedTuple):
    """Everything that the files say. `base` is where relative paths begin when no prefix is given."""

    global_: GlobalSettings
    pools: tuple[PoolSettings, ...]
    warnings: tuple[Remark, ...] = ()
    notices: tuple[str, ...] = ()
    path: str = ""
    prefix: str | None = None
    base: str = "/"
