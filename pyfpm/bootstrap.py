"""Bring pyfpm into an interpreter that may have none installed, then become the template or the monitor.

Runs in: template, started by path by master/spawn.py with the pool's own interpreter, Python 3.9 and up; monitor, with
the master's interpreter.
Fails by: a traceback on stderr and exit code 1, when this interpreter cannot run pyfpm's code at all.

Only the name `pyfpm` is added: the folder around the package (the master's site-packages, most often) never gets on
the tenant's sys.path, and another pyfpm in the tenant's environment is not looked at.
"""

import importlib
import importlib.util
import os
import sys


def _adopt_package() -> None:
    package = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "pyfpm", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyfpm"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    if sys.version_info < (3, 9):  # noqa: UP036 - this file is what an older one gets to read
        sys.exit(f"{sys.executable} is too old: pools need Python 3.9 or later")
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):  # 3.11: -P and PYTHONSAFEPATH
        del sys.path[0]  # the folder of this script
    _adopt_package()
    # `template CHANNEL POOL` or `monitor CHANNEL MASTER UID GID`
    importlib.import_module(f"pyfpm.{sys.argv[1]}.main").main(*sys.argv[2:-1])
