"""Log files: whole lines, rotation, and no error that reaches the writer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pyfpm.logs.files import LogFile


def test_lines_are_appended_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for line in (b"one\n", b"two\n"):
        log = LogFile(str(path))
        assert log.write(line)
        assert not os.get_inheritable(log.fileno())
        log.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_reopen_keeps_the_number_and_follows_the_path(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path))
    before = log.fileno()
    path.rename(tmp_path / "log.1")
    log.write(b"old\n")
    log.reopen()
    log.write(b"new\n")
    assert log.fileno() == before
    assert (tmp_path / "log.1").read_bytes() == b"old\n"
    assert path.read_bytes() == b"new\n"
    log.close()


def test_a_failed_reopen_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = LogFile(str(folder / "log"))
    folder.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        log.reopen()
    assert log.write(b"still here\n")
    assert (tmp_path / "away" / "log").read_bytes() == b"still here\n"
    log.close()


@pytest.mark.parametrize("path", [None, "/dev/stderr", "/proc/self/fd/2"])
def test_standard_error_is_inherited_never_opened(path: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    log = LogFile(path)
    log.write(b"one\n")
    log.reopen()
    log.write(b"two\n")
    log.close()
    assert log.is_stderr
    assert capfd.readouterr().err == "one\ntwo\n"


def test_standard_output_too(capfd: pytest.CaptureFixture[str]) -> None:
    log = LogFile("/dev/stdout")
    log.write(b"one\n")
    log.close()
    assert not log.is_stderr
    assert capfd.readouterr().out == "one\n"


def test_a_full_disk_loses_lines_and_counts_them() -> None:
    log = LogFile("/dev/full")
    assert not log.write(b"one\n")
    assert not log.write(b"two\n")
    assert log.take_lost() == (2, "No space left on device")
    assert log.lost == 0
    log.close()


def test_a_fifo_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device or address"):
        LogFile(str(tmp_path / "fifo"))


def test_a_stuck_reader_does_not_stop_the_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    log = LogFile(str(tmp_path / "fifo"))
    while log.write(b"x" * 1023 + b"\n"):
        pass
    assert log.lost == 1
    os.read(reader, 1 << 20)
    assert log.write(b"again\n")
    assert os.read(reader, 1 << 20).endswith(b"again\n")
    log.close()
    os.close(reader)


def test_after_half_a_line_the_next_one_starts_on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(str(tmp_path / "log"))
    write = os.write
    answers = iter([5, 0])  # the disk takes five bytes of the first line

    def half(fd: int, data: bytes) -> int:
        room = next(answers, len(data))
        if not room:
            raise OSError(28, "No space left on device")
        return write(fd, data[:room])

    monkeypatch.setattr(os, "write", half)
    assert not log.write(b"a long line\n")
    assert log.write(b"next\n")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"a lon\nnext\n"


def test_many_lines_for_a_stuck_pipe_do_not_stop_the_writer() -> None:
    """As it is with -O: the descriptor is inherited and blocks, and its reader is a pager that nobody moves."""
    reader, writer = os.pipe()
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        log = LogFile(None)
        assert not log.write(b"a line\n" * 30_000)
        assert os.get_blocking(writer), "whoever else has it notices nothing"
    finally:
        os.dup2(before, 2)
        for descriptor in (before, writer):
            os.close(descriptor)
    assert log.lost > 1000
    log.close()
    whole = os.read(reader, 1 << 20)
    assert whole.count(b"\n") + log.lost == 30_000
    os.close(reader)
