"""Label and field selectors: syntax, meaning, texts."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.selectors import (
    NOTHING,
    LabelSelector,
    Operator,
    Requirement,
    field_value,
    label_map_selector,
    label_selector_of,
    parse_field_selector,
    parse_label_selector,
)
from nodeport.api.status import BadRequest

LABELS = {"app": "web", "tier": "front", "n": "5"}
KEYS = st.sampled_from(["app", "example.com/role", "in", "notin", "a.b_c"])
VALUES = st.sampled_from(["", "web", "x-1", "in", "5"])


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True), ("app", True), ("!app", False), ("nope", False), ("!nope", True), ("app=web", True),
        ("app==web", True), ("app!=web", False), ("nope!=web", True), ("app in (web,x)", True), ("app in (x)", False),
        ("app notin (x)", True), ("nope notin (x)", True), ("nope in (x)", False), ("n>4", True), ("n<4", False),
        ("tier>1", False), ("app=web,tier=back", False), (" app = web , tier=front ", True), ("app in (web),!x", True),
        ("app=", False), ("app in ()", False), ("app in (,web)", True),
    ],
)  # fmt: skip
def test_label_selectors_mean_what_kubectl_users_expect(text: str, matches: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a in (x", "unable to parse requirement: found '', expected: ',', or identifier"),
        ("a in (x y)", "unable to parse requirement: found 'y', expected: ',' or ')'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("n>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must"
                " be an integer"),
    ],
)  # fmt: skip
def test_broken_label_selectors_are_bad_requests_in_the_apis_words(text: str, why: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_label_selector(text)
    assert caught.value.message == why


def test_malformed_keys_and_values_are_named() -> None:
    with pytest.raises(
        BadRequest, match=r'unable to parse requirement: <nil>: Invalid value: "a&b": name part must'
    ):
        parse_label_selector("a&b")
    with pytest.raises(
        BadRequest, match=r'values\[0\]\[a\]: Invalid value: "\$x": a valid label must be an empty'
    ):
        parse_label_selector("a=$x")


REQUIREMENTS = st.one_of(
    st.builds(
        lambda key, operator, value: Requirement(key, operator, (value,)),
        KEYS, st.sampled_from([Operator.EQUALS, Operator.DOUBLE_EQUALS, Operator.NOT_EQUALS]), VALUES,
    ),
    st.builds(
        lambda key, operator, values: Requirement(key, operator, tuple(sorted(values))),
        KEYS, st.sampled_from([Operator.IN, Operator.NOT_IN]), st.sets(VALUES, min_size=1),
    ),
    st.builds(Requirement, KEYS, st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST])),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(REQUIREMENTS, max_size=4))
def test_printing_and_parsing_a_label_selector_round_trips(requirements: list[Requirement]) -> None:
    selector = LabelSelector(tuple(requirements))
    assert parse_label_selector(str(selector)) == selector


@settings(max_examples=300)
@given(st.text(alphabet="ab=!,<>() in", max_size=12))
def test_any_text_is_a_selector_or_a_bad_request(text: str) -> None:
    with suppress(BadRequest):
        parse_label_selector(text).matches(LABELS)


def test_selectors_of_objects() -> None:
    assert label_map_selector(None).empty
    assert label_map_selector({"app": "web"}).matches(LABELS)
    assert not label_selector_of(None).matches(LABELS)
    assert label_selector_of(None) == NOTHING
    assert label_selector_of({}).empty
    both = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "x", "operator": "DoesNotExist"},
        ],
    }
    assert label_selector_of(both).matches(LABELS)
    assert not label_selector_of(both).matches({**LABELS, "x": ""})
    with pytest.raises(BadRequest, match='"Near" is not a valid label selector operator'):
        label_selector_of({"matchExpressions": [{"key": "a", "operator": "Near"}]})


def test_field_selectors_compare_texts() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}
    assert parse_field_selector("metadata.name=p,spec.nodeName!=n2,status.phase==Running").matches(pod)
    assert not parse_field_selector("spec.nodeName=").matches(pod)
    assert parse_field_selector("spec.host=").matches(pod)
    assert parse_field_selector("").empty
    assert parse_field_selector("spec.nodeName=a").exact("spec.nodeName") == "a"
    assert parse_field_selector(r"a=x\,y\=z\\").requirements == (("a", "=", "x,y=z\\"),)
    assert parse_field_selector("b=2,a!=1").requirements == (("a", "!=", "1"), ("b", "=", "2"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
        ("a=\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_broken_field_selectors_are_bad_requests(text: str, why: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_field_selector(text)
    assert caught.value.message == why


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(KEYS, st.sampled_from(["=", "!="]), st.text(alphabet="ab,=\\", max_size=4)), max_size=3
    )
)
def test_printing_and_parsing_a_field_selector_keeps_its_terms(terms: list[tuple[str, str, str]]) -> None:
    from nodeport.api.selectors import FieldSelector

    selector = FieldSelector(tuple(terms))
    assert sorted(parse_field_selector(str(selector)).requirements) == sorted(terms)


def test_fields_that_need_a_reading_of_their_own() -> None:
    assert field_value({"spec": {}}, "spec.unschedulable") == "false"
    assert field_value({"spec": {"unschedulable": True}}, "spec.unschedulable") == "true"
    assert field_value({"source": {"component": "kubelet"}}, "source") == "kubelet"
    assert field_value({}, "status.replicas") == "0"
    assert field_value({"status": {"podIPs": [{"ip": "10.0.0.1"}]}}, "status.podIPs") == "10.0.0.1"
    assert field_value({"spec": "odd"}, "spec.type.x") == ""
