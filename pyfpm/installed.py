"""Where this pyfpm is installed, with every link followed.

Runs in: master; an operator's shell.
Fails by: nothing to fail at.

A pool's interpreter is started with this path, so the names of our files in its stacks begin with it, whichever link
led to the master's: /opt/pyfpm may be one to /opt/pyfpm-1.2.
"""

from __future__ import annotations

import os

PACKAGE = os.path.dirname(os.path.realpath(__file__))
BOOTSTRAP = os.path.join(PACKAGE, "bootstrap.py")
OWN_FILES = os.path.join(PACKAGE, "")  # what their names begin with
