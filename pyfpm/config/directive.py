"""What a directive is: a field of a settings class that carries its name, its reader and its documentation.

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: KeyError for a name or an attribute that is no directive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyfpm.config.values import Kind

_METADATA = "directive"


class Origin(Enum):
    """Whose directive it is: PHP-FPM's, with the same name and meaning, or pyfpm's own."""

    PHP_FPM = "php-fpm"
    OWN = "pyfpm"


class Shape(Enum):
    """How it is written: `name = value`, `name[key] = value` or `name[] = value`."""

    SCALAR = ""
    KEYED = "key"
    LIST = "list"


class Directive(NamedTuple):
    """One row of the table. `attribute` is the field of the settings class that holds the value."""

    attribute: str
    name: str
    kind: Kind
    doc: str
    default: Any = None
    origin: Origin = Origin.PHP_FPM
    shape: Shape = Shape.SCALAR
    differs: str = ""  # how it differs from PHP-FPM's directive of the same name
    default_words: str = ""  # the default in words, where the value alone does not tell
    example: str = ""
    sample: str = ""  # the value in the sample file; a directive without one is commented out there
    missing: str = ""  # what is said when it is not there; only a mandatory directive has this
    toml_head: str = ""  # its name as a key of its own table: listen = {address = ...}
    base: str = ""  # where its relative paths begin, when that is not the prefix
    for_template: bool = False

    @property
    def is_mandatory(self) -> bool:
        return bool(self.missing)

    def spelled(self, key: str | None = None) -> str:
        """The name as it stands in a file: `env[LANG]`, `access.suppress_path[]`, `listen`."""
        if self.shape is Shape.KEYED:
            return f"{self.name}[{'NAME' if key is None else key}]"
        return f"{self.name}[]" if self.shape is Shape.LIST else self.name


def directive(name: str, kind: Kind, doc: str, **more: Any) -> Any:
    """Declare a field of a settings class as a directive; `more` are fields of `Directive`."""
    metadata = {_METADATA: {"name": name, "kind": kind, "doc": doc, **more}}
    if "missing" in more:
        return field(metadata=metadata)
    if more.get("shape") is Shape.KEYED:
        return field(default_factory=dict, metadata=metadata)
    return field(default=more.get("default"), metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the two settings classes share: `places` says where each directive was set, as "file:line"."""

    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def is_set(self, attribute: str) -> bool:
        """Whether a file sets this directive, as opposed to its default."""
        return attribute in self.places

    def where(self, attribute: str = "") -> str:
        """The "file:line" that sets this directive; that of the section's header when none does."""
        return self.places.get(attribute, self.places.get("", ""))


def directives_of(settings: type[Settings]) -> tuple[Directive, ...]:
    """The table of a settings class, in the order of declaration."""
    return tuple(
        Directive(attribute=field.name, **field.metadata[_METADATA])
        for field in fields(settings)
        if _METADATA in field.metadata
    )


def directives_by_name(settings: type[Settings]) -> dict[str, Directive]:
    return {directive.name: directive for directive in directives_of(settings)}


def directive_of(settings: type[Settings], attribute: str) -> Directive:
    """The row of one attribute."""
    for row in directives_of(settings):
        if row.attribute == attribute:
            return row
    raise KeyError(attribute)


def name_of(settings: type[Settings], attribute: str) -> str:
    """The directive's name as spelled in a file, for messages: 'listen_mode' gives 'listen.mode'."""
    return directive_of(settings, attribute).name
