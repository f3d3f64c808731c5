"""Links in proxied pages, changed so that they lead through the proxy again.

Only the attributes that hold URLs are touched; every other byte stays as it was. One pass from left to right, so a page
of any content takes time in proportion to its length.
"""

from __future__ import annotations

import html
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

_ATTRIBUTES: dict[str, frozenset[str]] = {
    tag: frozenset(names.split())
    for tag, names in (
        ("a", "href"), ("applet", "codebase"), ("area", "href"), ("audio", "src"), ("base", "href"),
        ("blockquote", "cite"), ("body", "background"), ("button", "formaction"), ("command", "icon"), ("del", "cite"),
        ("embed", "src"), ("form", "action"), ("frame", "longdesc src"), ("head", "profile"), ("html", "manifest"),
        ("iframe", "longdesc src"), ("img", "longdesc src usemap"), ("input", "formaction src usemap"),
        ("ins", "cite"), ("link", "href"), ("object", "classid codebase data usemap"), ("q", "cite"),
        ("script", "src"), ("source", "src"), ("video", "poster src"),
    )
}  # fmt: skip
_RAW_TEXT = frozenset(("script", "style", "textarea", "title"))
_SPACE = frozenset(" \t\r\n\f")
_NAME_END = _SPACE | frozenset("/>=")


@dataclass(frozen=True, slots=True)
class LinkRewriter:
    """``prefix``: the proxied object's path, without a slash at its end. ``hosts``: names of the page's own server."""

    prefix: str
    hosts: frozenset[str] = frozenset()

    def url(self, text: str) -> str:
        """The link as it must be behind the proxy: links to elsewhere and relative ones stay as they are."""
        try:
            parts = urlsplit(text)
        except ValueError:
            return text
        if parts.netloc and parts.netloc not in self.hosts:
            return text
        if not parts.path.startswith("/"):
            return text
        path = parts.path
        if path != self.prefix and not path.startswith(f"{self.prefix}/"):
            path = self.prefix + posixpath.normpath("/" + path.lstrip("/")).rstrip("/")
            path += "/" if parts.path.endswith("/") else ""
        return urlunsplit(("", "", path, parts.query, parts.fragment))

    def page(self, text: str) -> str:
        """A whole page."""
        parts, done = [], 0
        for start, end in _links(text):
            link = html.unescape(text[start:end].strip())
            changed = self.url(link)
            if changed != link:
                parts += [text[done:start], html.escape(changed)]
                done = end
        return "".join((*parts, text[done:]))


def _links(text: str) -> Iterator[tuple[int, int]]:
    """Where the values of all attributes are that hold URLs."""
    at = 0
    while (at := text.find("<", at)) >= 0:
        if text.startswith("<!--", at):
            at = _after(text, "-->", at + 4)
            continue
        name_end = _skip(text, at + 1, until=_NAME_END)
        tag = text[at + 1 : name_end].lower()
        if not tag or not tag[0].isalpha():
            at += 1
            continue
        wanted = _ATTRIBUTES.get(tag, frozenset())
        at = name_end
        for name, start, end in _attributes(text, name_end):
            at = max(at, end)
            if name in wanted and end > start:
                yield start, end
        if tag in _RAW_TEXT:
            at = _end_of_raw_text(text, tag, at)


def _attributes(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """(name in lower case, where its value starts and ends) of a tag's attributes."""
    while True:
        at = _skip(text, at, over=_SPACE | {"/"})
        if at >= len(text) or text[at] == ">":
            return
        name_end = _skip(text, at + 1, until=_NAME_END)
        name, at = text[at:name_end].lower(), _skip(text, name_end, over=_SPACE)
        if at >= len(text) or text[at] != "=":
            continue
        at = _skip(text, at + 1, over=_SPACE)
        if at < len(text) and text[at] in "\"'":
            start, end = at + 1, text.find(text[at], at + 1)
            if end < 0:
                return
            at = end + 1
        else:
            start, end = at, _skip(text, at, until=_SPACE | {">"})
            at = end
        yield name, start, end


def _skip(
    text: str, at: int, *, over: frozenset[str] = frozenset(), until: frozenset[str] = frozenset()
) -> int:
    while at < len(text) and (text[at] in over if over else text[at] not in until):
        at += 1
    return at


def _after(text: str, mark: str, at: int) -> int:
    found = text.find(mark, at)
    return len(text) if found < 0 else found + len(mark)


def _end_of_raw_text(text: str, tag: str, at: int) -> int:
    """Where the content of a script ends: nothing in it is a tag."""
    mark, lowered_at = f"</{tag}", at
    while (lowered_at := text.find("</", lowered_at)) >= 0:
        if text[lowered_at : lowered_at + len(mark)].lower() == mark:
            return lowered_at
        lowered_at += 2
    return len(text)
