from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pyfpm.config import render
from pyfpm.config.directive import Shape, directives_of
from pyfpm.config.directives import GlobalSettings, PoolSettings
from tests.unit.config.reading import Folder


def test_the_dump_has_php_fpms_form(folder: Folder) -> None:
    configuration = folder.read(
        """
        [global]
        rlimit_core = unlimited
        [www]
        app = a:b
        listen = [::1]:9000
        listen.allowed_clients = ::1, 10.0.0.0/8
        pm = STATIC
        pm.max_children = 2
        access.suppress_path[] = /a
        access.suppress_path[] = /b
        request_head_timeout = 1.5
        env[A] = on
        """.replace("        ", "")
    )
    lines = render.dump(configuration)
    assert lines[:4] == ["[global]", "\tpid = undefined", "\tcontrol = none", "\terror_log = undefined"]
    assert lines[-1] == ""
    assert "\trlimit_core = unlimited" in lines
    order = ["log_limit", "emergency_restart_interval", "emergency_restart_threshold", "process_control_timeout"]
    order += ["process.max", "process.priority", "daemonize", "rlimit_files", "rlimit_core"]
    assert [line.split()[0] for line in lines[: lines.index("")] if line.split()[0] in order] == order
    assert lines.index("[www]") == lines.index("") + 1
    expected = [
        "\tlisten = [::1]:9000",
        "\tlisten.backlog = -1",
        "\tlisten.mode = 0660",
        "\tlisten.allowed_clients = ::1,10.0.0.0/8",
        "\tpm = static",
        "\tpm.max_children = 2",
        "\tpm.start_servers = 0",
        "\tpm.min_spare_servers = 0",
        "\tpm.max_spare_servers = 0",
        "\tpm.max_spawn_rate = 32",
        "\tpm.process_idle_timeout = 10s",
        "\tpm.max_requests = 0",
        "\tpm.max_memory = 0",
        "\tspawn_timeout = 60s",
        "\treload_probe = ",
        '\taccess.format = %R - %u %t "%m %r" %s',
        "\taccess.suppress_path[] = /a",
        "\taccess.suppress_path[] = /b",
        "\trequest_head_timeout = 1.5s",
        "\tclear_env = yes",
        "\tenv[A] = on",
    ]
    assert [line for line in lines if line in expected] == expected


def test_a_dump_of_every_directive_is_read_back_as_the_same(folder: Folder) -> None:
    """All that the dump shows is the truth: feeding it back gives equal settings."""
    configuration = folder.read("[www]\n" + "\n".join(_example_lines()))
    again = "\n".join(line.strip() for line in render.dump(configuration) if not line.endswith(("= undefined", "= ")))
    quoted = again.replace(f"= {configuration.pools[0].access_format}", "= '%R %m'")
    repeated = folder.read(quoted)
    assert repeated.global_ == configuration.global_
    assert repeated.pools[0].env == configuration.pools[0].env
    differing = [
        row.name
        for row in directives_of(PoolSettings)
        if getattr(repeated.pools[0], row.attribute) != getattr(configuration.pools[0], row.attribute)
    ]
    assert differing == ["access.format"]


def test_a_dump_of_a_dynamic_pool_is_read_back_as_the_same(folder: Folder) -> None:
    counts = "pm = dynamic\npm.max_children = 20\npm.min_spare_servers = 2\npm.max_spare_servers = 7"
    pool = folder.pool(counts)
    lines = [line.strip() for line in render.dump(folder.load("pyfpm.conf"))]
    assert "pm.start_servers = 4" in lines
    dumped = [line for line in lines if line.startswith(("pm", "reload_surge", "reload_timeout"))]
    dumped = [line for line in dumped if not line.endswith("undefined")]
    assert folder.pool("\n".join(dumped)) == pool


def _example_lines() -> list[str]:
    rows = [row for row in directives_of(PoolSettings) if row.example and row.attribute != "virtualenv"]
    return [f"{row.spelled('A') if row.shape is Shape.KEYED else row.spelled()} = {row.example}" for row in rows]


def test_the_reference_and_the_manual_name_every_directive() -> None:
    reference, manual = render.reference(), render.man()
    for row in (*directives_of(GlobalSettings), *directives_of(PoolSettings)):
        assert f"### {row.spelled()}" in reference
        assert f".It Ic {row.spelled()}\n" in manual


def test_the_samples_are_a_configuration_that_loads(folder: Folder) -> None:
    render.write_all(folder.path)
    configuration = folder.load("conf/pyfpm.conf")
    assert [pool.name for pool in configuration.pools] == [render.SAMPLE_POOL]
    assert configuration.warnings == ()


def test_every_line_of_the_samples_that_is_commented_out_can_be_taken_in(folder: Folder) -> None:
    text = render.sample_pool().replace("\n;", "\n").replace("\n ", "\n; ").replace("virtualenv =", "; virtualenv =")
    daemon = render.sample_daemon().replace("\n;", "\n").replace("\n ", "\n; ")
    folder.write("pyfpm.d/www.conf", text)
    configuration = folder.read(daemon)
    assert configuration.pools[0].python == "/usr/bin/python3.11"
    assert configuration.global_.pid == "/run/pyfpm/pyfpm.pid"
    assert (configuration.global_.emergency_restart_threshold, configuration.global_.process_max) == (10, 128)


def test_the_sample_pool_is_debians(folder: Folder) -> None:
    folder.write("www.conf", render.sample_pool())
    pool = folder.load("www.conf").pools[0]
    counts = (pool.pm_max_children, pool.pm_start_servers, pool.pm_min_spare_servers, pool.pm_max_spare_servers)
    assert (pool.pm, *counts) == ("dynamic", 5, 2, 1, 3)


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_finds_nothing_to_say_about_the_manual(tmp_path: Path) -> None:
    page = tmp_path / "pyfpm.8"
    page.write_text(render.man(), encoding="utf-8")
    said = subprocess.run(["mandoc", "-Tlint", str(page)], capture_output=True, text=True, check=False).stdout
    assert said == ""
