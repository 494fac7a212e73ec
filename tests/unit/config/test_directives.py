from __future__ import annotations

import dataclasses
import json

import pytest

from pyfpm.config.directive import (
    Directive,
    Settings,
    Shape,
    directive_of,
    directives_by_name,
    directives_of,
    name_of,
)
from pyfpm.config.directives import GlobalSettings, PoolSettings
from pyfpm.config.values import Address, MemoryLimit, show

ROWS = [(settings, row) for settings in (GlobalSettings, PoolSettings) for row in directives_of(settings)]


def make_pool() -> PoolSettings:
    return PoolSettings(
        name="www", app="a:b", listen=Address("tcp", port=9000), pm="static", pm_max_children=2, env={"A": "é"}
    )


@pytest.mark.parametrize(("settings", "row"), ROWS)
def test_an_attribute_is_the_name_with_underscores(settings: type[Settings], row: Directive) -> None:
    assert row.attribute == row.name.replace(".", "_")
    assert name_of(settings, row.attribute) == row.name
    assert directives_by_name(settings)[row.name] == row


@pytest.mark.parametrize(("settings", "row"), ROWS)
def test_every_row_documents_itself(settings: type[Settings], row: Directive) -> None:
    assert row.doc.endswith(".")
    assert row.doc[0].isupper()
    assert row.is_mandatory or row.default_words or row.default is not None, f"{settings}: the default has no words"
    assert not row.differs or row.differs.endswith(".")


@pytest.mark.parametrize(("settings", "row"), ROWS)
def test_defaults_and_samples_can_be_read(settings: type[Settings], row: Directive) -> None:
    if row.default not in (None, ()):
        assert row.kind.read(show(row.kind, row.default)) == row.default, settings
    if row.sample:
        row.kind.read(row.sample)
    if row.example and not row.example.startswith('"'):
        row.kind.read(row.example)


def test_a_name_that_is_no_attribute() -> None:
    with pytest.raises(KeyError):
        directive_of(PoolSettings, "nope")


def test_how_a_name_is_spelled() -> None:
    spelled = {row.shape: row.spelled() for row in directives_of(PoolSettings)}
    assert (spelled[Shape.KEYED], spelled[Shape.LIST]) == ("env[NAME]", "access.suppress_path[]")


def test_the_record_for_a_template_is_json_and_holds_nothing_of_the_masters() -> None:
    record = make_pool().template_record()
    assert json.loads(json.dumps(record)) == record
    assert record["pool"] == "www"
    assert record["env"] == {"A": "é"}
    assert record["pythonpath"] == []
    assert record["pm_max_memory"] == {"bytes": 0, "kind": "rss"}
    assert (record["pm_max_requests"], record["pm_max_requests_jitter"], record["reload_probe"]) == (0, 0, "")
    assert {"user", "group", "listen", "pm_max_children", "access_log"}.isdisjoint(record)


def test_places_do_not_count_when_settings_are_compared() -> None:
    pool = make_pool()
    assert dataclasses.replace(pool, places={"app": "x:1"}) == pool
    assert dataclasses.replace(pool, mount="/x") != pool
    assert dataclasses.replace(pool, pm_max_memory=MemoryLimit(2**30)) != pool
