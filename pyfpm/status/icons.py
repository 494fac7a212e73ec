"""The shapes that tell how something is to those who see no colours, and the words for those who see no shapes.

Runs in: worker or monitor that answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: KeyError for a shape that is not there.
"""

from __future__ import annotations

_SHAPES = {
    "good": '<circle cx="8" cy="8" r="7"/><path class="cut" d="M4.8 8.2l2.3 2.3 4.2-4.6"/>',
    "odd": '<path d="M8 1 15.5 14.5H.5z"/><path class="cut" d="M8 6v4.2M8 12.1v.4"/>',
    "bad": '<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z"/><path class="cut" d="M5.5 5.5l5 5M10.5 5.5l-5 5"/>',
    "busy": '<circle cx="8" cy="8" r="5"/>',
    "idle": '<circle class="ring" cx="8" cy="8" r="4.2"/>',
}
SPRITE = "".join([f'<symbol id="i-{name}" viewBox="0 0 16 16">{shape}</symbol>' for name, shape in _SHAPES.items()])
WORDS = {"bad": "Problem", "odd": "Notice"}


def icon(name: str) -> str:
    """One of the shapes; beside it stands a word, so it is hidden from who reads the page aloud."""
    return f'<svg class="icon" aria-hidden="true"><use href="#i-{name}"/></svg>'
