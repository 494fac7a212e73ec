"""A request over request_terminate_timeout is ended: by an exception where that helps, by KILL where it does not."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, output, request_bytes
from tests.harness.fcgi_client import answer as http_answer
from tests.harness.waits import Followed, Stopwatch, wait_for
from tests.process.test_slowlog import line_of, stuck_pool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon

LIMIT, GRACE = 0.4, 0.5
OVER = r"child {}, script 'stuck:application' \(request: \"GET {}\"\) execution timed out \((\S+) sec\), terminating"


@pytest.fixture
def marks(daemon: Daemon) -> Path:
    return stuck_pool(
        daemon, {"request_terminate_timeout": f"{LIMIT}s", "request_terminate_grace": "20s", "pm.max_children": 2}
    )


def expect_end(daemon: Daemon) -> None:
    daemon.expect(r"execution timed out|was here when|has not ended within|exited on signal 9|no stacks")


@pytest.mark.parametrize("where", ["sleep", "lock", "regex", "generator"])
def test_the_client_gets_504_and_the_worker_lives(daemon: Daemon, marks: Path, where: str) -> None:
    daemon.start()
    pids = set(daemon.engage(2))
    clock = Stopwatch()
    answer = daemon.get("/" + where)
    assert (answer.status, answer.body) == (504, b"Gateway Timeout\n")
    found = daemon.wait_log(OVER.format(r"\d+", "/" + where))
    assert LIMIT <= float(found[1]) < LIMIT + 0.5 + clock.lost, "not only with the next tick, which is a second long"
    daemon.wait_log(rf"WARNING: \[pool www\]   \[0x[0-9a-f]{{16}}\] do_{where}\(\) .*stuck\.py:{line_of(where)}")
    expect_end(daemon)
    assert set(daemon.engage(2)) == pids
    assert marks.read_text() == {"sleep": "finally\n", "generator": "closed\n"}.get(where, "")


@pytest.mark.parametrize("where", ["wrapper", "file"])
def test_a_file_that_gives_nothing(daemon: Daemon, marks: Path, where: str) -> None:
    """Where the application is stuck, and only our frames are on the stack."""
    daemon.pools["www"]["pm.max_children"] = 1
    daemon.start()
    before = daemon.get("/pid").body
    expect_end(daemon)
    assert daemon.get("/" + where).status == 504
    assert daemon.get("/pid").body == before
    assert marks.read_text() == "closed\n"


@pytest.mark.parametrize("where", ["c", "sum", "deaf", "swallow"])
def test_who_does_not_obey_is_killed(daemon: Daemon, marks: Path, where: str) -> None:
    daemon.pools["www"]["request_terminate_grace"] = f"{GRACE}s"
    daemon.start()
    expect_end(daemon)
    clock = Stopwatch()
    answer = daemon.get("/" + where)
    assert answer.ended is None
    assert clock.fair < LIMIT + GRACE + 1
    daemon.wait_log(rf"child \d+, script 'stuck:application' \(request: \"GET /{where}\"\) has not ended within")
    daemon.wait_log(r"child \d+ exited on signal 9 \(SIGKILL\)")
    daemon.engage(2)
    if where == "swallow":
        assert marks.read_text() == "RequestTimeout\n", "raised once: a second one would hit the clean-up"


@pytest.mark.usefixtures("marks")
def test_the_application_can_catch_it(daemon: Daemon) -> None:
    daemon.start()
    expect_end(daemon)
    assert daemon.get("/catch").body.startswith(b"caught the request has taken longer than 0.4 seconds")


@pytest.mark.usefixtures("marks")
def test_an_answer_that_has_begun_is_cut(daemon: Daemon) -> None:
    daemon.start()
    expect_end(daemon)
    answer = daemon.get("/late")
    assert answer.body == b"a beginning"
    assert answer.ended is None
    assert answer.cut


@pytest.mark.usefixtures("marks")
def test_other_requests_are_not_hurt(daemon: Daemon) -> None:
    daemon.start()
    daemon.engage(2)
    expect_end(daemon)
    with Connection(daemon.address()) as stuck:
        stuck.send(request_bytes(get_parameters("/sleep")))
        answers = [daemon.get("/pid").status for _ in range(200)]
        assert stuck.receive().status == 504
    assert set(answers) == {200}
    assert daemon.log.read().count("execution timed out") == 1


@pytest.mark.usefixtures("marks")
def test_short_requests_at_the_limit_are_ended_or_whole(daemon: Daemon) -> None:
    """Requests that end just when their time is over: the exception hits them or nobody."""
    daemon.pools["www"]["request_terminate_timeout"] = "0.1s"
    daemon.start()
    expect_end(daemon)
    statuses = {daemon.get("/sleep", f"seconds={0.09 + step / 1000}").status for step in range(0, 40, 2)}
    assert statuses <= {200, 504}
    assert daemon.get("/pid").status == 200
    assert "RequestTimeout" not in daemon.log.read()
    assert "exited on signal" not in daemon.log.read()


@pytest.mark.usefixtures("marks")
def test_an_idle_kept_connection_has_no_time_limit(daemon: Daemon) -> None:
    daemon.pools["www"]["pm.max_children"] = 1
    daemon.start()
    expect_end(daemon)
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/pid"), keep=True))
        first = client.receive().body
        assert daemon.get("/sleep").status == 504  # for as long as that takes the connection is idle
        client.send(request_bytes(get_parameters("/pid"), keep=True))
        assert client.receive().body == first


@pytest.mark.usefixtures("marks")
def test_the_wait_for_a_head_has_a_limit_of_its_own(daemon: Daemon) -> None:
    daemon.start()
    expect_end(daemon)
    with Connection(daemon.address()) as client:
        whole = request_bytes(get_parameters("/pid"))
        client.send(whole[:20])
        assert daemon.get("/sleep").status == 504
        client.send(whole[20:])
        assert client.receive().status == 200


@pytest.mark.usefixtures("marks")
def test_a_request_that_knows_better(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.get("/extend", "by=5&sleep=0.9").body == b"True"
    assert "timed out" not in daemon.log.read()
    expect_end(daemon)
    assert daemon.get("/extend", "by=0.6&sleep=5").status == 504


def test_limits_are_for_the_application_until_it_has_answered(daemon: Daemon, marks: Path) -> None:
    daemon.pools["www"]["pm.max_children"] = 1
    daemon.start()
    daemon.expect("bytes came after pyfpm.finish_request")
    answer = daemon.get("/finish", "seconds=0.9")
    assert answer.body == b"all there is"
    assert answer.ended is not None
    assert daemon.get("/pid").status == 200
    assert marks.read_text() == "went on\n"
    assert "timed out" not in daemon.log.read()


def test_what_is_finished_can_be_limited_too(daemon: Daemon, marks: Path) -> None:
    daemon.pools["www"].update({"pm.max_children": 1, "request_terminate_timeout_track_finished": "yes"})
    daemon.start()
    expect_end(daemon)
    assert daemon.get("/finish", "seconds=60").body == b"all there is"
    assert daemon.get("/pid").status == 200
    daemon.wait_log("execution timed out")
    assert marks.read_text() == "went on\n"


def test_finish_request_answers_before_the_code_has_ended(daemon: Daemon, marks: Path) -> None:
    daemon.pools["www"]["request_terminate_timeout"] = None
    daemon.start()
    daemon.expect("8 bytes came after pyfpm.finish_request, not sent")
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/finish"), keep=True))
        answer = client.receive()
        assert (answer.body, answer.ended is not None) == (b"all there is", True)
        assert marks.read_text() == ""
        daemon.gate.release()
    daemon.wait_log("bytes came after pyfpm.finish_request")
    assert marks.read_text() == "went on\n"


@pytest.mark.usefixtures("marks")
def test_equal_limits_log_and_then_end(daemon: Daemon) -> None:
    slow_log = daemon.folder / "slow.log"
    daemon.pools["www"].update({"slowlog": slow_log, "request_slowlog_timeout": f"{LIMIT}s"})
    daemon.start()
    expect_end(daemon)
    daemon.expect("executing too slow")
    assert daemon.get("/sleep").status == 504
    log = daemon.log.read()
    assert log.index("executing too slow") < log.index("execution timed out")
    with contextlib.closing(Followed(slow_log)) as followed:
        followed.wait(r"do_sleep\(\)")


@pytest.mark.usefixtures("marks")
def test_a_client_that_takes_nothing(daemon: Daemon) -> None:
    daemon.pools["www"]["pm.max_children"] = 1
    daemon.start()
    before = daemon.get("/pid").body
    expect_end(daemon)
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/flood")))
        daemon.wait_log("execution timed out")
        assert daemon.get("/pid").body == before, "the wait for the peer was broken off"


@pytest.mark.usefixtures("marks")
def test_a_record_that_it_hits_is_whole_all_the_same(daemon: Daemon) -> None:
    """The application writes, the client takes nothing, and the exception comes in the middle of a record."""
    daemon.start()
    expect_end(daemon)
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/stubborn")))
        daemon.gate.wait_inside()
        said = client.socket.recv(1 << 20)  # there is room again when the application goes on
        daemon.gate.release()
        while piece := client.socket.recv(1 << 20):
            said += piece
    answer = http_answer(output(said))
    assert answer.ended is not None
    assert answer.body == b"".join(bytes((number,)) * 65536 for number in range(64)) + b"the end"


def test_a_client_that_is_slow_gets_to_know_that_the_answer_is_cut(daemon: Daemon, marks: Path) -> None:
    """It takes nothing until the time is over: what is out of a record is completed first."""
    daemon.start()
    expect_end(daemon)
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/flood")))
        # Not before the exception has hit: a worker that can write is hard to hit, and writes a gigabyte meanwhile.
        wait_for(lambda: '"state":"Ending"' in daemon.run("status", "--full", "--json").stdout, "the exception")
        answer = client.receive()
    assert answer.cut
    assert answer.ended is None
    assert marks.read_text() == ""


@pytest.mark.usefixtures("marks")
def test_a_body_that_does_not_come(daemon: Daemon) -> None:
    daemon.pools["www"]["pm.max_children"] = 1
    daemon.start()
    before = daemon.get("/pid").body
    expect_end(daemon)
    with Connection(daemon.address()) as client:
        parameters = get_parameters("/body", REQUEST_METHOD="POST", CONTENT_LENGTH="1000")
        whole = request_bytes(parameters, b"x" * 1000)
        client.send(whole[:-600])
        assert client.receive().status == 504
    assert daemon.get("/pid").body == before
