"""What the front server sent, made into the environ of PEP 3333.

Runs in: worker, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: PeerError when the front server leaves out what no request can do without.

Fronts differ in how they split the path, and agree in that they decode it (percent-encoding undone once, the bytes sent
as they are; the codec reads them as latin-1, as PEP 3333 wants):

    nginx with its stock fastcgi_params, Apache's ProxyPass, HAProxy    all in SCRIPT_NAME, no PATH_INFO
    Apache's SetHandler                                                 split behind the first part that is no file
    lighttpd, Caddy                                                     all in PATH_INFO
    any of them behind a prefix of its own                              prefix in SCRIPT_NAME, the rest in PATH_INFO

Joining the two and splitting at the pool's mount point is right for every one. REQUEST_URI is raw, and what a client
typed rather than what the front resolved, so it is left to the application.
"""

from __future__ import annotations

from pyfpm.errors import PeerError
from pyfpm.gateway.response import FileWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyfpm.protocols.events import Environ

SOFTWARE = "pyfpm"


def base_environ(errors: object) -> Environ:
    """The keys that are the same for each request of a worker. `errors` is wsgi.errors, a text stream."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": errors,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,  # read() ends with the body: frameworks then accept uploads of unknown length
    }


def complete(environ: Environ, mount: str, body: Any) -> bool:
    """Make `environ` (parameters and base) whole, in place. False: the path is outside the mount, answer 404.

    `mount` is "" or "/shop", without a slash at its end; `body` becomes wsgi.input. Outside the mount SCRIPT_NAME is
    empty and PATH_INFO is the whole path. Raises PeerError.
    """
    get = environ.get
    environ["wsgi.input"] = body
    if not get("REQUEST_METHOD"):
        raise PeerError("the front server sent no REQUEST_METHOD: its configuration lacks 'include fastcgi_params'")
    script, info = get("SCRIPT_NAME"), get("PATH_INFO")
    if script is None and info is None:
        raise PeerError("the front server sent neither SCRIPT_NAME nor PATH_INFO: 'include fastcgi_params' is missing")
    path = (script or "") + (info or "")
    if path[:1] != "/":
        path = "/" + path
    inside = not mount or path == mount or path.startswith(mount + "/")
    if mount and inside:
        environ["SCRIPT_NAME"] = mount
        environ["PATH_INFO"] = path[len(mount) :]
    else:
        environ["SCRIPT_NAME"] = ""
        environ["PATH_INFO"] = path
    if is_https(get("HTTPS"), get("REQUEST_SCHEME")):
        environ["wsgi.url_scheme"] = "https"
    # A client's "Proxy:" header must not become the HTTP_PROXY that HTTP libraries obey: CVE-2016-5385, httpoxy.
    if "HTTP_PROXY" in environ:
        del environ["HTTP_PROXY"]
    # nginx sends these two a second time under the names of headers; RFC 3875, 4.1.18 reserves the short ones.
    if "HTTP_CONTENT_LENGTH" in environ:
        del environ["HTTP_CONTENT_LENGTH"]
    if "HTTP_CONTENT_TYPE" in environ:
        del environ["HTTP_CONTENT_TYPE"]
    # nginx sends it empty where there is no body; absent is as right, and int(environ["CONTENT_LENGTH"]) is common.
    if get("CONTENT_LENGTH") == "":
        del environ["CONTENT_LENGTH"]
    if not (get("SERVER_NAME") and get("SERVER_PORT") and get("SERVER_PROTOCOL") and "QUERY_STRING" in environ):
        _fill_gaps(environ)
    if "SERVER_SOFTWARE" not in environ:
        environ["SERVER_SOFTWARE"] = SOFTWARE
    return inside


def is_https(https: str | None, scheme: str | None) -> bool:
    """HTTPS decides ("on", "1"; "off" is no); where it is missing or empty, REQUEST_SCHEME."""
    if https:
        return https.lower() not in ("off", "0", "no", "false")
    return scheme == "https"


def _fill_gaps(environ: Environ) -> None:
    """What must always be there, or must never be empty (PEP 3333, "environ Variables").

    nginx sends an empty SERVER_NAME for a server without `server_name`; HAProxy no QUERY_STRING without a query.
    """
    https = environ["wsgi.url_scheme"] == "https"
    environ["SERVER_NAME"] = environ.get("SERVER_NAME") or environ.get("SERVER_ADDR") or "localhost"
    environ["SERVER_PORT"] = environ.get("SERVER_PORT") or ("443" if https else "80")
    environ["SERVER_PROTOCOL"] = environ.get("SERVER_PROTOCOL") or "HTTP/1.0"
    environ.setdefault("QUERY_STRING", "")
