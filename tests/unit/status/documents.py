"""An HTML document as a browser takes it: its elements, its attributes, its texts."""

from __future__ import annotations

from html.parser import HTMLParser

EMPTY = ("meta", "link", "circle", "path", "rect", "use", "br")
ELEMENTS = {
    "html", "head", "meta", "title", "link", "noscript", "style", "body", "svg", "symbol", "circle", "path", "rect",
    "use", "header", "p", "time", "span", "main", "div", "h1", "h2", "ul", "li", "strong", "a", "section", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "small", "b", "bdi", "footer", "script",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "http-equiv", "rel", "href", "class", "id", "hidden", "role", "title",
    "scope", "aria-hidden", "aria-label", "aria-labelledby", "aria-sort", "data-own", "data-key", "data-v", "data-sort",
    "viewbox", "preserveaspectratio", "d", "cx", "cy", "r", "width", "height",
}  # fmt: skip


class Document(HTMLParser):
    """Parsed; every element that was opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def check_document(text: str) -> Document:
    """That it is whole, and that nothing is in it but what the page is made of."""
    document = Document(text)
    assert {tag for tag, _ in document.elements} <= ELEMENTS
    assert {name for _, attributes in document.elements for name in attributes} <= ATTRIBUTES
    assert [tag for tag, _ in document.elements].count("script") == 1
    return document
