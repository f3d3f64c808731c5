from __future__ import annotations

import pytest

from nodeport.node.images.references import NotAReference, parse


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("web", "docker.io/library/web:latest"),
        ("nodeport/echo", "docker.io/nodeport/echo:latest"),
        ("index.docker.io/a/b:1", "docker.io/a/b:1"),
        ("registry.example:5000/a/b_c/d-e:v1.2-x", "registry.example:5000/a/b_c/d-e:v1.2-x"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("[::1]:5000/a:1", "[::1]:5000/a:1"),
        ("a@sha256:" + "0" * 64, "docker.io/library/a@sha256:" + "0" * 64),
        ("a:1@sha256:" + "0" * 64, "docker.io/library/a:1@sha256:" + "0" * 64),
    ],
)
def test_names_are_completed_as_engines_do(text: str, whole: str) -> None:
    assert str(parse(text)) == whole
    assert parse(whole) == parse(text)


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a b", "a/", "/a", "a//b", "a:-1", "a@sha256:0", "a@", "-a", "x" * 256]
)
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(NotAReference, match="invalid reference format"):
        parse(text)


def test_a_capital_letter_is_named() -> None:
    with pytest.raises(NotAReference, match=r"repository name \(Web\) must be lowercase"):
        parse("Web")
