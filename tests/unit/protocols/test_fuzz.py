"""50,000 damaged requests: whatever comes, the codec's own error is the only one, and the shortcut keeps in step."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.harness import fcgi_client as client
from tests.wire.feeding import outcome, shortcut

RECORDED = Path(__file__).parents[2] / "wire" / "nginx-1.22"
CASES = 50_000


def seeds() -> list[bytes]:
    """Requests as nginx sent them, and rarer things; short ones, so that damage hits what matters."""
    files = [path.read_bytes() for path in sorted(RECORDED.glob("*.bin"))]
    small = {"A": "b", "N" * 130: "v" * 200}
    abort = client.record(client.ABORT, 1)
    params = client.stream(client.PARAMS, 1, client.pairs(small), 7)
    return [data for data in files if len(data) < 1000] + [
        client.request_bytes(small, b"body", keep=True),
        client.begin() + params + client.stream(client.STDIN, 1, b"x" * 20, 3),
        client.record(client.GET_VALUES, 0, client.pairs({"FCGI_MAX_REQS": ""})) + client.begin() + abort,
        client.begin(role=2, keep=True) + client.begin(2) + client.begin(3),
    ]


def damaged(random: Random, seed: bytes, other: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(6)
        if kind == 0:
            data[at : at + 1] = bytes((random.choice((0, 1, 2, 4, 5, 8, 127, 128, 255, random.randrange(256))),))
        elif kind == 1:
            data[at:at] = random.randbytes(random.randrange(12))
        elif kind == 2:
            del data[at : at + random.randrange(12)]
        elif kind == 3:
            data[at : at + 40] = other[at : at + 40]
        elif kind == 4:
            del data[at:]
        else:
            data += other
    return bytes(data)


def test_damaged_requests() -> None:
    random = Random(20261121)
    known = seeds()
    refused = 0
    for number in range(CASES):
        if number % 10:
            data = damaged(random, random.choice(known), random.choice(known))
        else:
            data = b"\1" + random.randbytes(random.randrange(120))
        cut = random.randrange(len(data) + 1)
        found = outcome([data[:cut], data[cut:]])
        refused += isinstance(found[0], str)
        short = shortcut(data)
        assert short is None or found == (short, b""), data
    # Neither all nor nothing: the damage reaches every depth.
    assert CASES // 10 < refused < CASES * 9 // 10
