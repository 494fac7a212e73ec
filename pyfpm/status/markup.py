"""Text made safe for HTML and XML.

Runs in: worker or monitor that answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing.
"""

from __future__ import annotations


def escape(text: str) -> str:
    """For elements and attributes. (html.escape would bring 300 KB of entities along; str.translate takes six times as
    long as this.)"""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#039;")
