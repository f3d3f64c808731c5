"""Which credentials of a pod's imagePullSecrets are for an image, and which registry is asked how."""

from __future__ import annotations

import base64
import json

import pytest

from nodeport.node.images.credentials import Credentials, matching
from nodeport.node.images.references import parse
from nodeport.node.images.registry import Registries


def config(**hosts: str) -> dict[str, str]:
    """``host``: the user's name; the password is always the same."""
    auths = {
        host: {"auth": base64.b64encode(f"{user}:a:b".encode()).decode()} for host, user in hosts.items()
    }
    return {".dockerconfigjson": json.dumps({"auths": auths})}


def users(image: str, *secrets: dict[str, str]) -> list[str]:
    return [each.user for each in matching(secrets, parse(image))]


@pytest.mark.parametrize(
    ("key", "image", "covered"),
    [
        ("registry.example", "registry.example/a/b:1", True),
        ("https://registry.example/v1/", "registry.example/a/b:1", True),
        ("registry.example/v2", "registry.example/a", True),
        ("registry.example/a", "registry.example/a/b", True),
        ("registry.example/a", "registry.example/ab", False),
        ("registry.example:5000", "registry.example:5000/a", True),
        ("registry.example", "registry.example:5000/a", False),
        ("registry.example:5000", "registry.example/a", False),
        ("*.example", "registry.example/a", True),
        ("*.example", "a.registry.example/a", False),
        ("*.*.example", "a.registry.example/a", True),
        ("r*y.example", "registry.example/a", True),
        ("other.example", "registry.example/a", False),
        ("registry.example.evil", "registry.example/a", False),
        ("", "registry.example/a", False),
    ],
)
def test_an_entry_is_for_the_host_and_the_path_that_it_names(key: str, image: str, *, covered: bool) -> None:
    assert users(image, config(**{key: "me"})) == (["me"] if covered else [])


def test_the_most_exact_entry_comes_first_and_each_once() -> None:
    many = config(
        **{"registry.example": "any", "registry.example/team/app": "app", "registry.example/team": "team"}
    )
    assert users("registry.example/team/app:1", many, many) == ["app", "team", "any"]


def test_passwords_may_have_colons_and_are_not_shown() -> None:
    (found,) = matching([config(**{"registry.example": "me"})], parse("registry.example/a"))
    assert found == Credentials("me", "a:b")
    assert "a:b" not in repr(found)


def test_the_older_form_and_bare_user_names_are_read() -> None:
    entry = {"registry.example": {"username": "me", "password": "x"}}
    assert users("registry.example/a", {".dockercfg": json.dumps(entry)}) == ["me"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"auths": []}', '{"auths": {"registry.example": 3}}', '{"auths": {"registry.example": {}}}',
     '{"auths": {"registry.example": {"auth": "%%%"}}}', '{"auths": {"registry.example": {"auth": "bm9jb2xvbg=="}}}',
     '{"auths": {"registry.example": {"auth": "/////w=="}}}'],
)  # fmt: skip
def test_a_secret_that_cannot_be_read_is_left_out(text: str) -> None:
    assert users("registry.example/a", {".dockerconfigjson": text}, {}) == []


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("registry.example", "https"), ("registry.example:5000", "https"), ("plain.example:80", "http"),
        ("localhost:5000", "http"), ("127.0.0.1:5000", "http"), ("127.9.9.9", "http"), ("[::1]:5000", "http"),
        ("localhost.example", "https"), ("127.0.0.1.example", "https"), ("10.0.0.1:5000", "https"),
    ],
)  # fmt: skip
def test_plain_http_is_for_this_machine_and_for_what_was_named(host: str, scheme: str) -> None:
    assert Registries(insecure=frozenset({"plain.example:80"})).url(host).scheme == scheme
