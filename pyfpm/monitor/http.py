"""Questions over HTTP/1.1 and 1.0, as Prometheus, curl and proxies ask: one request, then the end.

Runs in: monitor.   Pure: no system call, no clock, no log.
Fails by: nothing; what is no HTTP is answered with a status that says so.

"Section" is one of RFC 9112 (HTTP/1.1), or of RFC 9110 (HTTP semantics) where that is said.
"""

from __future__ import annotations

import re

from pyfpm.monitor.questions import LARGEST_HEAD, Answer, Heard, Question, refusal
from pyfpm.status.headers import headers_of

_END = re.compile(rb"\r?\n\r?\n")  # section 2.2: a line may end with LF alone
_LINE_END = re.compile(rb"\r?\n")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/(\d)\.(\d)")
_NAME = re.compile(_TOKEN)
_CONTROLS = bytes([*range(9), *range(10, 32), 127])
_ABSOLUTE = re.compile(r"https?://[^/?]+", re.IGNORECASE)

BAD_REQUEST = "400 Bad Request"
TOO_LARGE = "431 Request Header Fields Too Large"
OTHER_VERSION = "505 HTTP Version Not Supported"


class Http:
    """One request. Its body is not read."""

    def __init__(self) -> None:
        self._buffer = b""

    def hear(self, data: bytes) -> Heard:
        self._buffer = (self._buffer + data).lstrip(b"\r\n")  # section 2.2: empty lines before it
        if not self._buffer:
            return Heard()
        found = _END.search(self._buffer)
        if found is None:
            if not self._buffer[:1].isalpha():
                return self._refuse(BAD_REQUEST)  # nothing will come that makes this a request
            return self._refuse(TOO_LARGE) if len(self._buffer) > LARGEST_HEAD else Heard()
        if found.start() > LARGEST_HEAD:
            return self._refuse(TOO_LARGE)
        question = read_head(self._buffer[: found.start()])
        return self._refuse(question) if isinstance(question, str) else Heard(question=question)

    def encode(self, answer: Answer, question: Question | None) -> bytes:
        headers = [*headers_of(answer.kind), *answer.headers, ("Content-Length", str(len(answer.body)))]
        lines = [f"HTTP/1.1 {answer.status}", *[f"{name}: {value}" for name, value in headers], "Connection: close"]
        start = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return start if question is not None and question.method == "HEAD" else start + answer.body

    def _refuse(self, status: str) -> Heard:
        return Heard(self.encode(refusal(status), None), is_over=True)


def read_head(head: bytes) -> Question | str:
    """The request line and the fields, without the empty line behind them; the status to refuse it with if it is wrong.

    Stricter than most, as nobody who means well writes these by hand: what two readers could understand in two ways is
    refused.
    """
    first, *lines = _LINE_END.split(head)
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        return BAD_REQUEST
    method, target, major, minor = (part.decode("ascii") for part in request.groups())
    if major != "1":
        return OTHER_VERSION
    fields: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or value.translate(None, _CONTROLS) != value:
            return BAD_REQUEST
        fields.setdefault(name.decode("ascii").lower(), []).append(value.strip(b" \t").decode("latin-1"))
    hosts = fields.get("host", [])
    if len(hosts) > 1 or (not hosts and minor != "0"):  # section 3.2
        return BAD_REQUEST
    target = _ABSOLUTE.sub("", target, count=1) or "/"  # section 3.2.2
    if target.startswith("?"):
        target = "/" + target
    if not target.startswith("/"):
        return BAD_REQUEST
    path, _, query = target.partition("?")
    return Question(method, (path,), query, ",".join(fields.get("accept", [])), is_direct=True)
