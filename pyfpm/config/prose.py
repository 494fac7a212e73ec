"""The words around the table: what the generated documents say that is not about one directive.

Runs in: a developer's shell, when the documents are generated.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

REFERENCE_HEAD = """\
# Configuration

<!-- Generated from pyfpm/config/directives.py by `python -m pyfpm.config.render`. Do not edit. -->

pyfpm reads one file, `/etc/pyfpm.conf` unless `-c FILE` names another, and the files that it includes.
`pyfpm -t` checks them without starting anything, `pyfpm -tt` shows every value that is in force as well.
A name that is not on this page is an error, never ignored. All errors are reported at once, each with file, line,
directive, reason and, where there is one, a suggestion:

```
/etc/pyfpm.d/shop.conf:3: pm.max_childern: no such directive [PYFPM-105]
    did you mean 'pm.max_children'?
```

`pyfpm explain 105`, and [errors.md](errors.md), have more on each of these codes.

Where PHP-FPM has a directive, pyfpm's has the same name and meaning; what differs is said with it. A pool needs `app`,
`listen`, `pm` and `pm.max_children`; also `user` when pyfpm is started as root, and the two spare counts with
`pm = dynamic`.

`pyfpm reload` takes over what has changed; [operations.md](operations.md#what-counts-as-changed) names the few
directives that need a restart.

## The language

A file whose name ends in `.toml` is TOML, any other is INI as PHP-FPM has it. Either may include the other.

```ini
; a comment; so is a line that begins with '#'
[global]
error_log = /var/log/pyfpm.log
include = pyfpm.d/*.conf

[www]
app = mysite.wsgi:application
listen = /run/pyfpm/www.sock
pm = dynamic
pm.max_children = ${WORKERS:-20}
pm.min_spare_servers = 2
pm.max_spare_servers = 6
env[DJANGO_SETTINGS_MODULE] = mysite.settings
env[SECRET_KEY] = $SECRET_KEY
access.suppress_path[] = /health
```

```toml
[global]
error_log = "/var/log/pyfpm.log"
include = ["pyfpm.d/*.toml"]

[pool.www]
app = "mysite.wsgi:application"
listen = { address = "/run/pyfpm/www.sock", mode = "0660" }
pm = { mode = "dynamic", max_children = 20, min_spare_servers = 2, max_spare_servers = 6 }
env = { DJANGO_SETTINGS_MODULE = "mysite.settings", SECRET_KEY = "$SECRET_KEY" }
access = { suppress_path = ["/health"] }
```

- **Sections.** `[global]` is the daemon's; any other name is a pool's (in TOML `[pool.NAME]`). Lines before the first
  section are global. A section may be opened again, in another file too: its directives join. Names of sections and
  directives may be in any case.
- **Order.** The last declaration wins, for plain directives and for each variable of `env` alike (in PHP-FPM the first
  one wins for `env`). Lists written as `name[] = value` grow.
- **Values.** Bare, `"in double quotes"` (`\\"` and `\\\\` inside) or `'in single quotes'` (nothing is special inside).
  In a bare value `;` begins a comment. No value goes over several lines. Words stay words: `env[DEBUG] = on` is `on`.
- **Variables** (INI only). `${NAME}` is replaced from the environment of the master, by nothing if it is not set;
  `${NAME:-default}` has a default. A value of `env` that is `$NAME` and nothing else is the master's variable.
- **`$pool`** is the pool's name in any value of its section, except in `include`. **`$prefix`** is the prefix, at the
  beginning of `chroot` only.
- **Relative paths** begin at the pool's `prefix`, else at the folder of `-p`, else in the folder of the main
  configuration file. `pid` and `error_log` begin at the folder of `-p`, else at `/var`.
- **Durations** are a number with `s`, `m`, `h` or `d`; seconds without. Fractions are exact to the millisecond: `1.5s`
  is one and a half seconds (in PHP-FPM it is 1). `500ms` is refused: write `0.5s`.
- **Memory** is a number with `K`, `M` or `G`, of 1024 bytes, its square and its cube; bytes without.
- **Booleans** are `yes`, `true`, `on`, `1` and `no`, `false`, `off`, `0`.
- **TOML types.** A string is read as in INI. Numbers, booleans and lists may be written natively where the directive
  takes one; a list is refused where one value is meant, a number where a text is. An octal mode must be a string.
  Tables become dots: `pm = { max_children = 4 }` is `pm.max_children`. The keys `address` of `listen` and `mode` of
  `pm` stand for the directives `listen` and `pm` themselves.
- **`include`** takes a pattern. The files come in the order of their names, at most 5 levels deep. A pattern that
  matches nothing is a warning.
"""

SAMPLE_DAEMON_HEAD = """\
The configuration of pyfpm's master. Every directive is here, with its default commented out.
Generated from pyfpm/config/directives.py; docs/configuration.md explains more.
Check a change with: pyfpm -t -c FILE
"""

SAMPLE_POOL_HEAD = """\
A pool: one application, with its own user, interpreter and workers. The section's name is the pool's.
Every directive is here; those that have a default are commented out.
Generated from pyfpm/config/directives.py; docs/configuration.md explains more.

As it stands, this pool serves the standard library's demo application. For a site of your own, set app, chdir and \
virtualenv, and listen on a unix socket with your front server's user as listen.owner: that keeps all others out.
"""

MAN_HEAD = """\
.\\" Generated from pyfpm/config/directives.py. Do not edit.
.Dd November 21, 2026
.Dt PYFPM 8
.Os
.Sh NAME
.Nm pyfpm
.Nd process manager for Python web applications behind a front server
.Sh SYNOPSIS
.Nm
.Op Fl DFhiORtv
.Op Fl c Ar file
.Op Fl g Ar file
.Op Fl p Ar folder
.Op Ar command
.Sh DESCRIPTION
.Nm
runs WSGI applications in pools, each under its own user and with its own
Python interpreter, and speaks FastCGI to the web server in front of it.
.Pp
The options are as follows:
.Bl -tag -width Ds
.It Fl c Ar file , Fl \\-config Ar file
Read this configuration.
The default is
.Pa /etc/pyfpm.conf .
.It Fl D , Fl \\-daemonize
Go to the background once the pools serve.
.It Fl F , Fl \\-nodaemonize
Stay in the foreground, whatever the configuration says.
.It Fl g Ar file , Fl \\-pid Ar file
Write the process id of the master to this file, instead of the configured one.
A command finds the master by it.
.It Fl h , Fl \\-help
Show a summary of the options; after a command, of the command's.
.It Fl i , Fl \\-info
Show versions and the machine, for a bug report.
.It Fl O , Fl \\-force\\-stderr
In the foreground, log to stderr.
.It Fl p Ar folder , Fl \\-prefix Ar folder
Relative paths begin in this folder.
.It Fl R , Fl \\-allow\\-to\\-run\\-as\\-root
Allow pools that run as root.
.It Fl t , Fl \\-test
Check the configuration, and all that a start would refuse, and exit.
Given twice, show every value that is in force as well.
.It Fl v , Fl \\-version
Show the version.
.El
.Sh COMMANDS
Without a command
.Nm
is the daemon.
A command finds the running daemon of the configuration, waits for the outcome,
and prints it.
Options of
.Nm
stand before the command.
.Bl -tag -width Ds
.It Cm start
Start the daemon in the background, and wait until it serves.
.It Cm stop
Stop now; requests in hand are cut off.
.It Cm quit
Finish the requests in hand, within process_control_timeout, then stop.
.It Cm restart Op Ar pool ...
Quit and start again, with a gap.
With pools, start their workers anew, without one.
.It Cm reload Oo Fl \\-timeout Ar seconds Oc Oo Fl \\-all | Ar pool ... Oc
Take over the configuration and new code without losing a request,
or refuse and say why.
Pools whose settings and files have not changed are left alone,
unless they are named or
.Fl \\-all
is given.
.It Cm logrotate
Reopen the logs.
.It Cm upgrade
Replace the master by the installed version.
.It Cm status Oo Fl \\-full Oc Oo Fl \\-json Oc Op Ar pool ...
Show how the pools are: a line each, or with
.Fl \\-full
all that is known, and every worker.
.It Cm top Oo Fl n Ar looks Oc Oo Fl \\-interval Ar seconds Oc Oo Fl \\-plain Oc Op Ar pool ...
Watch pools and workers, live.
The key ? shows the others.
Colours are left out where
.Ev NO_COLOR
is set.
.It Cm stack Oo Fl \\-idle Oc Oo Fl \\-all\\-frames Oc Ar pool | pid ...
Show where busy workers are at this moment:
the Python stacks of all their threads.
.It Cm memory Oo Fl \\-json Oc Op Ar pool ...
Show how much memory each process has, and what one more worker would cost.
.It Cm ping Op Ar pool ...
Find out whether the daemon answers, and whether each of the pools serves.
.It Cm explain Op Ar code ...
Show what a code in the log, such as PYFPM-417, means and what to do.
.El
.Sh SIGNALS
.Bl -tag -width "TERM, INT"
.It Dv TERM , INT
Stop now.
.It Dv QUIT
Finish the requests in hand, then stop.
.It Dv USR1
Reopen the logs.
.It Dv USR2 , HUP
Reload; how it went is in the log.
.El
.Sh CONFIGURATION
A file whose name ends in
.Pa .toml
is TOML, any other is INI as PHP-FPM has it.
Lines that begin with ; or # are comments.
The section
.Li [global]
is the daemon's, any other is a pool's, named after the pool
.Pq in TOML : Li [pool.NAME] .
The last declaration of a directive wins.
.Pp
In INI, ${NAME} and ${NAME:-default} come from the environment of the master.
In a pool, $pool is the name of the pool.
Relative paths begin at the pool's prefix, else at the folder of
.Fl p ,
else in the folder of the main configuration file.
"""

MAN_TAIL = """\
.Sh FILES
.Bl -tag -width Ds
.It Pa /etc/pyfpm.conf
The configuration.
.It Pa /run/pyfpm/pyfpm.pid , Pa /run/pyfpm/pyfpm.sock
The pid file, where the directive
.Li pid
says so, and the control socket beside it.
.It Pa /var/log/pyfpm.log
The error log, unless
.Li error_log
says otherwise.
.El
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
Stopped as asked, the test of the configuration was successful,
or the command is done.
.It 1
The reload or upgrade was refused, or the command failed.
.It 64
Wrong usage.
.It 69
No daemon runs that a command could be for.
.It 70
The start failed.
.It 75
Not now, or no answer in time.
.It 77
This user may not ask for that.
.It 78
The configuration cannot be used.
.El
.Sh EXAMPLES
Check the configuration, then start in the foreground:
.Dl pyfpm -t && pyfpm
Take over new code of one pool:
.Dl pyfpm reload shop
"""
