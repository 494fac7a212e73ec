from __future__ import annotations

import pytest

from tests.unit.config.reading import GOOD_POOL, Folder


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("9000", "9000"),
        ("9000", "127.0.0.1:9000"),
        ("localhost:9000", "LOCALHOST:9000"),
        ("/run/x.sock", "/run//y/../x.sock"),
    ],
)
def test_two_pools_cannot_have_one_address(folder: Folder, first: str, second: str) -> None:
    text = f"[a]\n{GOOD_POOL}\nlisten = {first}\n[b]\n{GOOD_POOL}\nlisten = {second}\n"
    assert folder.complaint(text) == (
        "pyfpm.conf:16: listen: [pool b] unable to set listen address as it's already used in another pool 'a'\n"
        f"    pool 'a' listens on {first} by pyfpm.conf:8"
    )


@pytest.mark.parametrize(
    ("first", "second"), [("9000", "9001"), ("127.0.0.1:9000", "[::1]:9000"), ("/run/9000", "9000")]
)
def test_addresses_that_go_together(folder: Folder, first: str, second: str) -> None:
    text = f"[a]\n{GOOD_POOL}\nlisten = {first}\n[b]\n{GOOD_POOL}\nlisten = {second}\n"
    assert len(folder.read(text).pools) == 2


def test_examples_that_stand_in_for_missing_addresses_are_not_compared(folder: Folder) -> None:
    assert "already used" not in folder.complaint("[a]\n[b]\n")


def test_json_is_the_only_format_without_codes(folder: Folder) -> None:
    assert folder.pool("access.format = json").access_format == "json"
    complaint = folder.complaint(f"[a]\n{GOOD_POOL}\naccess.format = JSON")
    assert complaint == (
        "pyfpm.conf:8: access.format: 'JSON' has no % code, so every line would be the same\n    did you mean 'json'?"
    )


def test_an_owner_beside_an_access_list_is_a_warning(folder: Folder) -> None:
    configuration = folder.read(f"[a]\n{GOOD_POOL}\nlisten.acl_users = x\nlisten.owner = y\nlisten.group = z\n")
    assert configuration.warnings == (
        "[pool a] ACL set, listen.owner = 'y' is ignored",
        "[pool a] ACL set, listen.group = 'z' is ignored",
    )
