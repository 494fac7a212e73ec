from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyfpm import catalogue
from pyfpm.config.values import Address, MemoryLimit
from pyfpm.errors import ConfigError
from tests.unit.config.reading import GOOD_POOL, Folder

TWO_LANGUAGES = {
    "pyfpm.conf": """
        [global]
        log_level = warn
        process_control_timeout = 1.5s
        [www]
        app = mysite.wsgi:application
        listen = /run/x.sock
        listen.mode = 0600
        listen.acl_users = a, b
        pm = dynamic
        pm.max_children = 20
        pm.min_spare_servers = 2
        pm.max_spare_servers = 6
        pm.max_memory = 268435456
        reload_probe = /health?deep
        pythonpath = /a:/b
        access.suppress_path[] = /a
        access.suppress_path[] = /b
        env[ON] = on
        env[N] = 1
        catch_workers_output = no
        """,
    "pyfpm.toml": """
        [global]
        log_level = "warn"
        process_control_timeout = 1.5
        [pool.www]
        app = "mysite.wsgi:application"
        listen = { address = "/run/x.sock", mode = "0600", acl_users = ["a", "b"] }
        pm = { mode = "dynamic", max_children = 20, min_spare_servers = 2, max_spare_servers = 6, max_memory = "256M" }
        reload_probe = "/health?deep"
        pythonpath = ["/a", "/b"]
        access = { suppress_path = ["/a", "/b"] }
        env = { ON = "on", N = 1 }
        catch_workers_output = false
        """,
}


def test_both_languages_say_the_same(folder: Folder) -> None:
    ini, toml = (folder.read(text, name) for name, text in TWO_LANGUAGES.items())
    assert ini.pools == toml.pools
    assert ini.global_ == toml.global_
    assert (ini.pools[0].pm_start_servers, ini.pools[0].pm_max_memory) == (4, MemoryLimit(2**28))
    assert ini.pools[0].access_suppress_path == ("/a", "/b")
    assert ini.pools[0].env == {"ON": "on", "N": "1"}


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines(folder: Folder) -> None:
    assert (
        folder.complaint("""\
            [global]
            log_limit = 100
            syslog.facility = local9
            [www]
            app = mysite.wsgi
            pm.max_childern = 5
            pm = prefork
            listen = 127.0.0.1:99999
            listen.mode = 0888
            spawn_timeout = 1w
            daemonize = no
            env = 3
            env[] = 3
            chdir[x] = /a
            access.suppress_path = /a
            access.suppress_path[k] = /a
            php_admin_value[memory_limit] = 1M
            python = /a
            virtualenv = /b
            zzz = 1
            """)
        == """\
pyfpm.conf:2: log_limit: log_limit must be greater than 512
    write a whole number of at least 512
pyfpm.conf:3: syslog.facility: invalid value 'local9'
    use auth, authpriv, cron, daemon, ftp, kern, local0, local1, local2, local3, local4, local5, local6, local7, lpr, \
mail, news, syslog, user or uucp
pyfpm.conf:4: pm.max_children: [pool www] pm.max_children must be a positive value
    write pm.max_children = 5
pyfpm.conf:5: app: 'mysite.wsgi' is not module:callable
    write the import name of the module, ':' and the name of the callable, as in mysite.wsgi:application
pyfpm.conf:6: pm.max_childern: no such directive
    did you mean 'pm.max_children'?
pyfpm.conf:7: pm: invalid process manager 'prefork'
    use static, dynamic or ondemand
pyfpm.conf:8: listen: invalid port value '99999'
    write a port from 1 to 65535
pyfpm.conf:9: listen.mode: '0888' is not an octal mode
    write three octal digits after a zero, as in 0660
pyfpm.conf:10: spawn_timeout: '1w' is not a duration
    write 30s, 1.5s, 5m, 2h or 1d
pyfpm.conf:11: daemonize: belongs in [global]
pyfpm.conf:12: env: You must provide a key for field 'env'
    write env[NAME] = value
pyfpm.conf:13: env: You must provide a key for field 'env'
    write env[NAME] = value
pyfpm.conf:14: chdir[x]: takes no key in brackets
    write chdir = value
pyfpm.conf:15: access.suppress_path: is a list
    write access.suppress_path[] = value
pyfpm.conf:16: access.suppress_path[k]: Keys provided to field 'access.suppress_path' are ignored
    write access.suppress_path[] = value
pyfpm.conf:17: php_admin_value: is PHP's own
    a Python application has its settings in its own files, or in its environment
pyfpm.conf:19: virtualenv: cannot stand beside 'python', set at pyfpm.conf:18
    leave one of the two out
pyfpm.conf:20: zzz: no such directive"""
    )


def test_toml_types_that_a_directive_does_not_take(folder: Folder) -> None:
    assert (
        folder.complaint(
            """\
            [pool.www]
            app = 5
            listen = { address = ["a", "b"], mode = 0o660 }
            pm = { mode = "static", max_children = 1.5 }
            catch_workers_output = 1
            env = { A = true }
            pythonpath = ["/a:b"]
            """,
            "www.toml",
        )
        == """\
www.toml:2: app: the number 5 is not module:callable; both may have dots
    write a string, in quotes
www.toml:3: listen: a list is not host:port, [IPv6]:port, a port, or the path of a unix socket
    write one value
www.toml:3: listen.mode: the number 432 is not an octal mode such as 0660
    write a string, in quotes
www.toml:4: pm.max_children: the number 1.5 is not a whole number of at least 1
    write a string, in quotes
www.toml:5: catch_workers_output: the number 1 is not yes or no
    write a string, in quotes
www.toml:6: env[A]: the boolean true is not text, which may be empty
    write a string, in quotes
www.toml:7: pythonpath: '/a:b' holds a ':'
    write each item on its own"""
    )


def test_what_is_mandatory(folder: Folder) -> None:
    assert (
        folder.complaint("\n[www]\n")
        == """\
pyfpm.conf:2: app: [pool www] no application has been defined
    write app = mysite.wsgi:application
pyfpm.conf:2: listen: [pool www] no listen address have been defined!
    write listen = /run/pyfpm/www.sock
pyfpm.conf:2: pm: [pool www] the process manager is missing (static, dynamic or ondemand)
    write pm = static
pyfpm.conf:2: pm.max_children: [pool www] pm.max_children must be a positive value
    write pm.max_children = 5"""
    )


def test_there_must_be_a_pool(folder: Folder) -> None:
    assert (
        folder.complaint("[GLOBAL]\npid = x\n")
        == "pyfpm.conf: No pool defined. at least one pool section must be specified in config file"
    )


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a" * 65])
def test_names_that_no_pool_may_have(folder: Folder, name: str) -> None:
    assert folder.complaint(f"[{name}]\n{GOOD_POOL}").startswith(f"pyfpm.conf:1: [{name}]: ")


def test_a_file_that_is_not_there(folder: Folder) -> None:
    with pytest.raises(ConfigError) as caught:
        folder.load("none.conf")
    path = folder.path / "none.conf"
    assert str(caught.value) == f"failed to open configuration file '{path}': No such file or directory (2)"


# ── order, sections, variables ──────────────────────────────────────────────────────────────────────────────────────


def test_the_last_declaration_wins_also_in_env(folder: Folder) -> None:
    pool = folder.pool("mount = /a\nmount = /b\nenv[A] = 1\nenv[B] = 2\nenv[A] = 3\nLISTEN.Mode = 0600")
    assert (pool.mount, pool.env, pool.listen_mode) == ("/b", {"A": "3", "B": "2"}, 0o600)
    assert pool.where("mount").endswith("pyfpm.conf:9")
    assert pool.where("chdir").endswith("pyfpm.conf:1")
    assert pool.is_set("mount")
    assert not pool.is_set("chdir")


def test_a_section_may_be_opened_again(folder: Folder) -> None:
    configuration = folder.read(f"[www]\n{GOOD_POOL}\n[global]\nlog_limit = 2000\n[WWW]\nmount = /x\n")
    assert [(pool.name, pool.mount) for pool in configuration.pools] == [("www", "/x")]
    assert configuration.global_.log_limit == 2000


def test_lines_before_any_section_are_global(folder: Folder) -> None:
    assert folder.read(f"daemonize = yes\n[www]\n{GOOD_POOL}").global_.daemonize is True


def test_variables_of_the_pool_and_of_the_master(folder: Folder) -> None:
    pool = folder.pool(
        """
        access.log = /var/log/$pool.log
        env[POOL] = $pool
        env[HOME] = $HOME
        env[PATH] = "$HOME/bin"
        env[NONE] = $NONE
        env[PRICE] = $5
        """,
        environ={"HOME": "/root"},
    )
    assert pool.access_log == "/var/log/www.log"
    assert pool.env == {"POOL": "www", "HOME": "/root", "PATH": "$HOME/bin", "NONE": "", "PRICE": "$5"}
    assert "Can't use '$pool' when the pool is not defined" in folder.complaint("[global]\npid = $pool.pid")


# ── paths ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_relative_paths_begin_in_the_folder_of_the_main_file(folder: Folder) -> None:
    configuration = folder.read(
        f"[global]\npid = run/x.pid\nerror_log = x.log\n[a]\n{GOOD_POOL}\nlisten = a.sock\npythonpath = x:/y\n"
    )
    assert configuration.base == str(folder.path)
    assert configuration.pools[0].listen == Address("unix", path=f"{folder.path}/a.sock")
    assert configuration.pools[0].pythonpath == (f"{folder.path}/x", "/y")
    assert (configuration.global_.pid, configuration.global_.error_log) == ("/var/run/x.pid", "/var/x.log")


def test_relative_paths_begin_at_the_prefix_of_the_pool_or_of_the_command_line(folder: Folder) -> None:
    folder.write(
        "x.conf",
        f"""
        [global]
        pid = run/x.pid
        [a]
        {GOOD_POOL}
        prefix = a/$pool
        virtualenv = venv
        chroot = $prefix/jail
        [b]
        {GOOD_POOL}
        listen = b.sock
        chroot = $prefix
        """.replace("        ", ""),
    )
    configuration = folder.load("x.conf", prefix="/srv/")
    first, second = configuration.pools
    assert (configuration.base, configuration.prefix) == ("/srv", "/srv")
    assert configuration.global_.pid == "/srv/run/x.pid"
    assert (first.prefix, first.virtualenv, first.chroot) == ("/srv/a/a", "/srv/a/a/venv", "/srv/a/a/jail")
    assert (second.listen.path, second.chroot) == ("/srv/b.sock", "/srv")


def test_the_default_error_log_is_for_root_only(folder: Folder) -> None:
    folder.write("x.conf", f"[www]\n{GOOD_POOL}")
    assert folder.load("x.conf", as_root=True).global_.error_log == "/var/log/pyfpm.log"
    assert folder.load("x.conf", as_root=True, prefix="/srv").global_.error_log == "/srv/log/pyfpm.log"
    assert folder.load("x.conf", as_root=False).global_.error_log is None


# ── include ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_includes_are_sorted_and_cross_languages(folder: Folder) -> None:
    folder.write("d/b.toml", '[pool.b]\napp = "m:a"\nlisten = 2\npm = { mode = "static", max_children = 1 }\n')
    folder.write("d/a.conf", f"[a]\n{GOOD_POOL}\nlisten = 1\n")
    folder.write("d/c.conf", "mount = /of-the-pool-around\n")
    (folder.path / "d/folder.conf").mkdir()
    configuration = folder.read(
        f"[global]\ninclude = d/[ab].*\ndaemonize = yes\n[c]\n{GOOD_POOL}\nlisten = 3\ninclude = d/c*\nchdir = /\n"
    )
    assert [pool.name for pool in configuration.pools] == ["a", "b", "c"]
    assert (configuration.pools[2].mount, configuration.pools[2].chdir) == ("/of-the-pool-around", "/")
    assert configuration.global_.daemonize is True
    assert configuration.pools[0].where("listen") == f"{folder.path}/d/a.conf:8"
    assert configuration.warnings == ()


def test_toml_includes_ini(folder: Folder) -> None:
    folder.write("a.conf", f"[a]\n{GOOD_POOL}")
    assert folder.read('[global]\ninclude = ["a.conf"]', "main.toml").pools[0].name == "a"


def test_an_include_that_matches_nothing_is_a_warning(folder: Folder) -> None:
    configuration = folder.read(f"[www]\n{GOOD_POOL}\ninclude = d/*.conf\n")
    main = folder.path / "pyfpm.conf"
    text = f"Nothing matches the include pattern 'd/*.conf' from {main} at line 8."
    assert configuration.warnings == ((catalogue.INCLUDE_MATCHES_NOTHING, text),)


def test_a_file_that_includes_itself(folder: Folder) -> None:
    folder.write("a.conf", "include = pyfpm.conf\n")
    assert (
        folder.complaint(f"[www]\n{GOOD_POOL}\ninclude = a.conf\n").replace(str(folder.path), "")
        == "a.conf:1: include: 'pyfpm.conf' includes itself"
    )


def test_includes_that_are_too_deep(folder: Folder) -> None:
    for depth in range(1, 7):
        folder.write(f"{depth}.conf", f"include = {depth + 1}.conf\n")
    folder.write("7.conf", "")
    assert (
        folder.complaint("include = 1.conf\n").split("\n")[0]
        == "5.conf:1: include: failed to include more than 5 files recursively"
    )


def test_an_include_that_cannot_be_read(folder: Folder) -> None:
    folder.write("a.conf", "")
    os.symlink(folder.path / "a.conf" / "x", folder.path / "broken.conf")
    assert "broken.conf': Not a directory (20)" in folder.complaint("include = brok*.conf\n")


def test_mistakes_in_an_included_file_name_that_file(folder: Folder) -> None:
    folder.write("a.conf", "pidd = x\n")
    assert folder.complaint(f"include = a.conf\n[www]\n{GOOD_POOL}") == (
        "a.conf:1: pidd: no such directive\n    did you mean 'pid'?"
    )


def test_the_path_may_be_relative(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("x.conf", f"[www]\n{GOOD_POOL}\naccess.log = x.log\n")
    monkeypatch.chdir(folder.path)
    configuration = Folder(Path()).load("x.conf")
    assert configuration.pools[0].access_log == f"{folder.path}/x.log"
    assert configuration.pools[0].where("access_log") == "x.conf:8"
