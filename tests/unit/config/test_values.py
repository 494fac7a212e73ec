from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.config import values
from pyfpm.config.values import Address, Kind, MemoryLimit, duration, number, one_of, read_address, show

DURATION = duration(zero=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("30", 30), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1.5s", 1.5), ("0.001", 0.001)],
)
def test_durations(text: str, seconds: float) -> None:
    assert DURATION.read(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1w", "1.5.s", "1,5s", "5S", "1 s", "400d", "0.0001s", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|is too long"):
        DURATION.read(text)


def test_milliseconds_are_refused_with_what_to_write() -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        DURATION.read("500ms")
    assert caught.value.args[1].endswith("write 0.500s")


def test_a_limit_of_no_time_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="must be greater than 0s"):
        duration(zero=False).read("0s")


@given(st.integers(min_value=0, max_value=365 * 86_400_000))
def test_durations_survive_being_shown(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert DURATION.read(DURATION.show(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "1.0", "0x10", "1_000", " 1", "4|1", "\u0663", "+1", "--1", "1" * 20])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        number(0).read(text)


def test_numbers_keep_to_their_bounds() -> None:
    assert number(-1).read("-1") == -1
    with pytest.raises(ValueError, match="-1 is out of bounds"):
        number(0).read("-1")
    with pytest.raises(ValueError, match="must be included"):
        number(-19, 20, refusal="must be included").read("21")


@pytest.mark.parametrize("text", ["0888", "660.", "66", "-660", "07777", "0o660", "rw-rw----", ""])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(ValueError, match="is not an octal mode"):
        values.MODE.read(text)


@given(st.integers(min_value=0, max_value=0o777))
def test_modes_survive_being_shown(mode: int) -> None:
    assert values.MODE.read(values.MODE.show(mode)) == mode


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("ON", True), ("1", True), ("no", False), ("false", False)])
def test_booleans(text: str, value: bool) -> None:
    assert values.YES_OR_NO.read(text) is value


@pytest.mark.parametrize("text", ["", "y", "2", "none", "enabled"])
def test_what_is_no_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="invalid boolean value"):
        values.YES_OR_NO.read(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9000", Address("tcp", port=9000)),
        ("127.0.0.1:9000", Address("tcp", "127.0.0.1", 9000)),
        ("localhost:9000", Address("tcp", "localhost", 9000)),
        ("[::1]:9000", Address("tcp", "::1", 9000)),
        ("::1:9000", Address("tcp", "::1", 9000)),
        ("/run/www.sock", Address("unix", path="/run/www.sock")),
        ("/run/a:b.sock", Address("unix", path="/run/a:b.sock")),
        ("www.sock", Address("unix", path="www.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert read_address(text) == address
    assert read_address(address.show()) == address


@pytest.mark.parametrize(
    "text", ["", "0", "65536", "127.0.0.1:", "127.0.0.1:x", "[::1:9000", "[x]:9000", "a b:1", "*:1", "1,2", "a:-1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_address(text)


@pytest.mark.parametrize("text", ["mysite.wsgi:application", "app:app.wsgi", "módulo:app"])
def test_applications(text: str) -> None:
    assert values.APPLICATION.read(text) == text


@pytest.mark.parametrize("text", ["", "mysite.wsgi", "a:b:c", "a:", ":b", "app.py:app()", "a..b:c", "a/b.py:c"])
def test_what_is_no_application(text: str) -> None:
    with pytest.raises(ValueError, match="is not module:callable"):
        values.APPLICATION.read(text)


def test_lists_take_spaces_and_hold_everything_once() -> None:
    assert values.NAMES.read("www-data, caddy,www-data") == ("www-data", "caddy")
    assert values.CLIENTS.read("127.0.0.1, ::1 ,10.0.0.0/8") == ("127.0.0.1", "::1", "10.0.0.0/8")
    with pytest.raises(ValueError, match="empty item"):
        values.NAMES.read("a,,b")


def test_a_network_with_host_bits_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Wrong IP address") as caught:
        values.CLIENTS.read("10.0.0.1/8")
    assert caught.value.args[1] == "did you mean '10.0.0.0/8'?"


@pytest.mark.parametrize("text", ["shop", "/shop/", "/", "/a b", "/a?b"])
def test_what_is_no_mount(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not"):
        values.MOUNT.read(text)


def test_core_limits() -> None:
    assert values.CORE_LIMIT.read("unlimited") == values.UNLIMITED
    assert values.CORE_LIMIT.show(values.UNLIMITED) == "unlimited"
    assert values.CORE_LIMIT.read("0") == 0
    with pytest.raises(ValueError, match="greater than zero or 'unlimited'"):
        values.CORE_LIMIT.read("-1")


def test_words_are_taken_in_any_case_and_by_alias() -> None:
    kind = one_of("warning", "error", aliases={"warn": "warning"})
    assert kind.read("WARN") == "warning"
    with pytest.raises(ValueError, match="invalid value 'loud'"):
        kind.read("loud")


def test_a_word_that_is_none_is_called_what_it_should_be() -> None:
    with pytest.raises(ValueError, match="invalid process manager 'fork'"):
        one_of("static", noun="process manager").read("fork")


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("0", MemoryLimit(), "0"),
        ("0G pss", MemoryLimit(), "0"),
        ("256M", MemoryLimit(256 * 2**20), "256M"),
        ("1024m  RSS", MemoryLimit(2**30), "1G"),
        ("1G pss", MemoryLimit(2**30, "pss"), "1G pss"),
        ("1048577", MemoryLimit(2**20 + 1), "1048577"),
        ("1025K", MemoryLimit(1025 * 1024), "1025K"),
    ],
)
def test_limits_of_memory(text: str, limit: MemoryLimit, shown: str) -> None:
    assert values.MEMORY_LIMIT.read(text) == limit
    assert values.MEMORY_LIMIT.show(limit) == shown


@pytest.mark.parametrize(
    "text", ["", "M", "-1M", "1.5G", "256 M", "256MB", "256Mpss", "256M uss", "rss 256M", "1T", "9" * 16, "\u0661M"]
)
def test_what_is_no_limit_of_memory(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of memory"):
        values.MEMORY_LIMIT.read(text)


def test_limits_of_memory_that_nobody_can_mean() -> None:
    with pytest.raises(ValueError, match="256 bytes are less than any worker needs") as caught:
        values.MEMORY_LIMIT.read("256 pss")
    assert caught.value.args[1] == "write 256M for megabytes"
    with pytest.raises(ValueError, match="is too much"):
        values.MEMORY_LIMIT.read("9" * 15 + "G")


@given(st.integers(min_value=2**20, max_value=10**15 - 1), st.sampled_from(["rss", "pss"]))
def test_limits_of_memory_survive_being_shown(size: int, kind: Literal["rss", "pss"]) -> None:
    limit = MemoryLimit(size, kind)
    assert values.MEMORY_LIMIT.read(limit.show()) == limit


@pytest.mark.parametrize("text", ["", "/", "/health", "/health?a=1&b=%20", "//www.example.org/", "//[::1]:80/x?y"])
def test_probes(text: str) -> None:
    assert values.PROBE.read(text) == text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("health", "write /health, or //health if it begins with a host"),
        ("http://a/b", "write /http://a/b, or //http://a/b if it begins with a host"),
        ("//example.org", "write //example.org/"),
        ("//example.org?x", "write //example.org/?x"),
        ("///x", "write //www.example.org/health, or a path with one '/'"),
        ("/a b", "write other characters than these as %20"),
        ("/é", "write other characters than these as %20"),
        ("/a#b", "write other characters than these as %20"),
    ],
)
def test_what_is_no_probe(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=r"must begin|is not") as caught:
        values.PROBE.read(text)
    assert caught.value.args[1] == advice


def test_chroot_may_begin_with_the_prefix() -> None:
    assert values.rebase_chroot(values.read_chroot("$prefix/jail"), "/srv") == "/srv/jail"
    with pytest.raises(ValueError, match="must be use at the beginning"):
        values.read_chroot("/srv/$prefix")


@pytest.mark.parametrize("kind", [values.TEXT, values.PATH, values.LOG_FILE, values.ENVIRONMENT_VALUE])
def test_no_value_holds_a_zero_byte(kind: Kind) -> None:
    with pytest.raises(ValueError, match="zero byte"):
        kind.read("a\0b")


def test_nothing_is_shown_as_undefined() -> None:
    assert show(values.TEXT, None) == "undefined"
    assert show(values.NAMES, ()) == "undefined"
    assert show(values.MOUNT, "") == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("SIGRTMIN+8", "SIGRTMIN+8"), ("rtmin+29", "SIGRTMIN+29"), ("SIGRTMIN", "SIGRTMIN+0"), ("None", "none")],
)
def test_a_real_time_signal(text: str, shown: str) -> None:
    value = values.REAL_TIME_SIGNAL.read(text)
    assert values.REAL_TIME_SIGNAL.show(value) == shown
    assert values.REAL_TIME_SIGNAL.read(shown) == value


@pytest.mark.parametrize("text", ["", "SIGUSR1", "42", "SIGRTMIN+30", "SIGRTMIN-1", "SIGRTMIN+"])
def test_what_is_no_real_time_signal(text: str) -> None:
    with pytest.raises(ValueError, match="is no real-time signal"):
        values.REAL_TIME_SIGNAL.read(text)
