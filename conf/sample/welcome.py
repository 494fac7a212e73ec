"""The sample site: a WSGI application without a framework. It shows what a request looks like when it arrives."""

import html
import os
import pwd
import sys
import time

SHOWN = (
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "CONTENT_LENGTH",
    "SERVER_PROTOCOL",
    "SERVER_NAME",
    "SERVER_PORT",
    "REMOTE_ADDR",
    "HTTP_HOST",
    "HTTP_USER_AGENT",
    "wsgi.url_scheme",
    "wsgi.multiprocess",
    "wsgi.multithread",
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>pyfpm serves</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 44em; margin: 3em auto; padding: 0 1em; color: #223 }
  h1 { font-weight: 600 }
  table { border-collapse: collapse; width: 100%% }
  th, td { text-align: left; padding: .3em .8em .3em 0; border-bottom: 1px solid #dde; vertical-align: top }
  th { font-weight: 400; color: #667; white-space: nowrap }
  td { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
</style>
<h1>pyfpm serves</h1>
<p>Worker %(pid)d of user %(user)s answers with Python %(python)s. It was forked from a template that had imported this
application, and it has answered %(count)d request%(plural)s so far.</p>
<table>
%(rows)s
</table>
</html>
"""

_count = 0


def application(environ, start_response):
    global _count
    _count += 1
    page = PAGE % {
        "pid": os.getpid(),
        "user": html.escape(_user_name()),
        "python": sys.version.partition(" ")[0],
        "count": _count,
        "plural": "" if _count == 1 else "s",
        "rows": "\n".join(_row(name, environ[name]) for name in SHOWN if name in environ),
    }
    if environ["PATH_INFO"] == "/print":
        print(f"printed by the application at {time.ctime()}")  # goes to the error log of pyfpm
    body = page.encode()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


def _row(name, value):
    if isinstance(value, str):
        value = value.encode("latin-1").decode("utf-8", "replace")  # PEP 3333: bytes in latin-1's clothes
    return f"<tr><th>{name}<td>{html.escape(repr(value), quote=False)}"


def _user_name():
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
