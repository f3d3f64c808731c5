"""Sets of fields: spelling, algebra, order, and both directions of the wire form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.managedfields.elements import (
    BadElement,
    canonical,
    in_order,
    key_element,
    shown,
    value_element,
)
from nodeport.api.managedfields.sets import (
    Tree,
    contains,
    covers,
    difference,
    intersection,
    ordered,
    overlaps,
    path_text,
    paths,
    read,
    recursive_difference,
    tree_of,
    union,
)

PORT = 'k:{"port":80,"protocol":"TCP"}'
ELEMENTS = st.sampled_from(["f:a", "f:b", "f:c", PORT, 'k:{"port":443,"protocol":"TCP"}', 'v:"x"', "v:2"])
PATHS = st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple)
SETS = st.lists(PATHS, max_size=8).map(lambda found: ordered(tree_of(*found)))


def members(tree: Tree) -> set[tuple[str, ...]]:
    return set(paths(tree))


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("f:name", "f:name"), ("f:", "f:"), ("f:a.b/c", "f:a.b/c"), ('v:"x"', 'v:"x"'), ("v: 1", "v:1"), ("i:3", "i:3"),
        ('k:{ "protocol":"TCP", "port": 80 }', PORT), ('k:{"name":"<a>"}', 'k:{"name":"\\u003ca\\u003e"}'),
        ("x:future", None),
    ],
)  # fmt: skip
def test_an_element_has_one_spelling(written: str, spelled: str | None) -> None:
    assert canonical(written) == spelled


@pytest.mark.parametrize("written", ["", "f", "fx", "k:[]", "k:{", "v:", "v:nonsense", "i:x"])
def test_a_malformed_element_is_refused(written: str) -> None:
    with pytest.raises(BadElement):
        canonical(written)


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ("f:spec", ".spec"), (PORT, '[port=80,protocol="TCP"]'), ('v:"x"', '[="x"]'), ("v:1", "[=1]"), ("i:0", "[0]"),
        ('k:{"ready":true}', "[ready=true]"), ('v:"a\\u003cb"', '[="a<b"]'),
    ],
)  # fmt: skip
def test_an_element_is_shown_as_go_shows_it(element: str, text: str) -> None:
    assert shown(element) == text


def test_elements_are_ordered_by_kind_and_then_by_what_they_hold() -> None:
    wanted = [
        ".", "f:a", "f:b", 'k:{"port":80}', PORT, 'k:{"port":443}', 'k:{"port":"a"}', 'k:{"protocol":"TCP"}',
        "v:2", "v:10", 'v:"a"', "v:true", "i:2", "i:10",
    ]  # fmt: skip
    assert in_order(reversed(wanted)) == wanted


def test_keys_and_values_are_spelled_as_go_spells_them() -> None:
    assert key_element([("port", 80), ("protocol", "TCP")]) == PORT
    assert value_element("a&b") == 'v:"a\\u0026b"'
    assert value_element("ä") == 'v:"ä"'


@pytest.mark.parametrize(
    ("ours", "theirs", "joined", "both", "left", "left_below"),
    [
        ({}, {}, {}, {}, {}, {}),
        ({"f:a": {}}, {}, {"f:a": {}}, {}, {"f:a": {}}, {"f:a": {}}),
        ({"f:a": {}}, {"f:a": {}}, {"f:a": {}}, {"f:a": {}}, {}, {}),
        # a parent is not its child
        ({"f:a": {}}, {"f:a": {"f:b": {}}}, {"f:a": {".": {}, "f:b": {}}}, {}, {"f:a": {}}, {"f:a": {}}),
        # taking a parent away leaves the children, unless recursively
        ({"f:a": {"f:b": {}}}, {"f:a": {}}, {"f:a": {".": {}, "f:b": {}}}, {}, {"f:a": {"f:b": {}}}, {}),
        (
            {"f:a": {".": {}, "f:b": {}}}, {"f:a": {}},
            {"f:a": {".": {}, "f:b": {}}}, {"f:a": {}}, {"f:a": {"f:b": {}}}, {},
        ),
        (
            {"f:a": {".": {}, "f:b": {}}}, {"f:a": {"f:b": {}}},
            {"f:a": {".": {}, "f:b": {}}}, {"f:a": {"f:b": {}}}, {"f:a": {}}, {"f:a": {}},
        ),
    ],
)  # fmt: skip
def test_algebra_of_two_sets(
    ours: Tree, theirs: Tree, joined: Tree, both: Tree, left: Tree, left_below: Tree
) -> None:
    assert union(ours, theirs) == joined
    assert intersection(ours, theirs) == both
    assert difference(ours, theirs) == left
    assert recursive_difference(ours, theirs) == left_below


@settings(max_examples=150)
@given(SETS, SETS)
def test_trees_do_what_sets_of_paths_do(ours: Tree, theirs: Tree) -> None:
    before = json.dumps([ours, theirs])
    assert members(union(ours, theirs)) == members(ours) | members(theirs)
    assert members(intersection(ours, theirs)) == members(ours) & members(theirs)
    assert members(difference(ours, theirs)) == members(ours) - members(theirs)
    below = {path for path in members(ours) if any(path[: len(top)] == top for top in members(theirs))}
    assert members(recursive_difference(ours, theirs)) == members(ours) - below
    assert all(contains(ours, path) for path in members(ours))
    assert json.dumps([ours, theirs]) == before


@settings(max_examples=100)
@given(SETS)
def test_a_set_survives_the_wire(tree: Tree) -> None:
    text = json.dumps(ordered(tree))
    assert read(json.loads(text)) == tree
    assert json.dumps(ordered(read(json.loads(text)))) == text
    assert tree_of(*paths(tree)) == tree


@settings(max_examples=100)
@given(SETS, SETS)
def test_every_result_has_the_one_form(ours: Tree, theirs: Tree) -> None:
    for made in (union(ours, theirs), intersection(ours, theirs), difference(ours, theirs)):
        assert made == tree_of(*paths(made))
        assert json.dumps(made) == json.dumps(ordered(made))
    assert overlaps(ours, theirs) is bool(members(ours) & members(theirs))
    assert covers(ours, theirs) is (members(theirs) <= members(ours))
    assert covers(union(ours, theirs), theirs)


def test_reading_drops_what_a_future_server_may_have_written() -> None:
    assert read({"f:a": {"x:new": {}}, "y:new": {"f:b": {}}}) == {"f:a": {}}


def test_reading_brings_a_client_s_spelling_into_ours() -> None:
    assert read({"f:a": {".": {}}, 'k:{"protocol":"TCP", "port":80}': {".": {}, "f:port": {}}}) == {
        "f:a": {},
        PORT: {".": {}, "f:port": {}},
    }


@pytest.mark.parametrize("fields", [[], "f:a", {"f:a": 1}, {"f:a": []}, {"nonsense": {}}])
def test_what_is_no_set_is_refused(fields: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        read(fields)


def test_nobody_owns_the_whole_object() -> None:
    assert not contains({"f:a": {}}, ())


def test_members_are_told_before_what_is_below_them() -> None:
    tree = read({"f:b": {".": {}, "f:x": {}}, "f:a": {"f:y": {}}, "f:c": {}})
    assert [path_text(path) for path in paths(tree)] == [".b", ".c", ".a.y", ".b.x"]
