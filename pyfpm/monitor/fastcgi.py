"""Questions over FastCGI, as front servers and health checks ask a pool.

Runs in: monitor.   Pure: no system call, no clock, no log.
Fails by: PeerError for bytes that are not FastCGI, or too many of them.
"""

from __future__ import annotations

from pyfpm.errors import PeerError
from pyfpm.monitor.questions import LARGEST_HEAD, Answer, Heard, Question
from pyfpm.protocols.events import Abort, Head, Reply
from pyfpm.protocols.fastcgi import Decoder, end, head, stdout
from pyfpm.status.headers import headers_of

FIRST_BYTE = b"\x01"  # the version of the protocol, and no letter that HTTP begins with


class FastCgi:
    """One request. Its body is not read, and the connection not kept: no front server needs that of a status page."""

    def __init__(self) -> None:
        self._decoder = Decoder({})
        self._size = 0
        self._request_id = 0

    def hear(self, data: bytes) -> Heard:
        self._size += len(data)
        reply = b""
        for event in self._decoder.feed(data):
            if isinstance(event, Reply):
                reply += event.data
                if event.close:
                    return Heard(reply, is_over=True)
            elif isinstance(event, Head):
                self._request_id = event.request_id
                return Heard(reply, _question(event.environ))
            elif isinstance(event, Abort):
                return Heard(reply, is_over=True)
        if self._size > LARGEST_HEAD:
            raise PeerError(f"more than {LARGEST_HEAD} bytes before the end of the parameters")
        return Heard(reply)

    def encode(self, answer: Answer, question: Question | None) -> bytes:
        headers = [*headers_of(answer.kind), *answer.headers]
        start, _ = head(answer.status, headers)
        body = b"" if question is not None and question.method == "HEAD" else answer.body
        return stdout(self._request_id, start + body) + end(self._request_id)


def _question(environ: dict[str, str]) -> Question:
    """Front servers split the path in different ways; REQUEST_URI has it as the client wrote it."""
    uri_path, _, uri_query = environ.get("REQUEST_URI", "").partition("?")
    paths = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""), uri_path)
    query = environ.get("QUERY_STRING", uri_query)
    return Question(environ.get("REQUEST_METHOD", "GET"), paths, query, environ.get("HTTP_ACCEPT", ""))
