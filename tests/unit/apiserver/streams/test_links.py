"""Links in proxied pages lead through the proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.apiserver.streams.html import LinkRewriter

PREFIX = "/api/v1/namespaces/default/pods/web/proxy"
REWRITER = LinkRewriter(PREFIX, frozenset({"web.example:8080"}))


@pytest.mark.parametrize(
    ("link", "changed"),
    [
        ("/x", f"{PREFIX}/x"),
        ("/x/", f"{PREFIX}/x/"),
        ("/", f"{PREFIX}/"),
        ("/x?q=1#top", f"{PREFIX}/x?q=1#top"),
        ("http://web.example:8080/x", f"{PREFIX}/x"),
        (f"{PREFIX}/x", f"{PREFIX}/x"),
        ("x/y", "x/y"),
        ("#top", "#top"),
        ("http://elsewhere/x", "http://elsewhere/x"),
        ("//elsewhere/x", "//elsewhere/x"),
        ("mailto:someone", "mailto:someone"),
        ("/a/../../b", f"{PREFIX}/b"),
    ],
)
def test_only_links_to_the_same_server_change(link: str, changed: str) -> None:
    assert REWRITER.url(link) == changed


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<a href="/x">t</a>', f'<a href="{PREFIX}/x">t</a>'),
        ("<A HREF='/x' class=b>t", f"<A HREF='{PREFIX}/x' class=b>t"),
        ("<a href=/x>t", f"<a href={PREFIX}/x>t"),
        ("<img alt='/x' src = \"/y\"/>", f"<img alt='/x' src = \"{PREFIX}/y\"/>"),
        ("<a title='<a href=/no>' href='/x'>", f"<a title='<a href=/no>' href='{PREFIX}/x'>"),
        ('<a href="/x?a=1&amp;b=2">', f'<a href="{PREFIX}/x?a=1&amp;b=2">'),
        ("<!-- <a href='/x'> --><p>", "<!-- <a href='/x'> --><p>"),
        (
            "<script src='/s'>var a = '<a href=\"/x\">'</SCRIPT><a href=/y>",
            f"<script src='{PREFIX}/s'>var a = '<a href=\"/x\">'</SCRIPT><a href={PREFIX}/y>",
        ),
        ("<p href='/x'>1 < 2 <a", "<p href='/x'>1 < 2 <a"),
        ("<a href", "<a href"),
        ('<a href="/never closed', '<a href="/never closed'),
    ],
)
def test_only_attributes_that_hold_links_change(page: str, expected: str) -> None:
    assert REWRITER.page(page) == expected


@given(st.text("<>a href='\"/=!-script&;x", max_size=80))
def test_any_page_can_be_read(page: str) -> None:
    assert isinstance(REWRITER.page(page), str)


@given(st.text("<>ab ='\"!-&;x\n", max_size=80))
def test_a_page_without_links_stays_as_it_is(page: str) -> None:
    assert REWRITER.page(page) == page
