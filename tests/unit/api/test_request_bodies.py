"""JSON and YAML bodies: what decodes, what is told twice, what is refused and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api import yamltext
from nodeport.api.decoding import check_version_and_kind, decode_json, decode_yaml
from nodeport.api.status import BadRequest
from nodeport.api.yamltext import load_all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
HEAD = "the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: "


def test_duplicate_fields_are_named_by_path_and_the_last_one_wins() -> None:
    obj, duplicates = decode_json(b'{"a":1,"a":2,"spec":{"ports":[{"port":1},{"port":1,"port":2}]}}')
    assert obj == {"a": 2, "spec": {"ports": [{"port": 1}, {"port": 2}]}}
    assert duplicates == ["a", "spec.ports[1].port"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "unexpected end of JSON input (<empty>)"),
        (b"{", "unexpected end of JSON input ({)"),
        (b'{"a":"b', 'unexpected end of JSON input ({"a":"b)'),
        (b"nope", "invalid character 'n' looking for beginning of value (6e6f7065)"),
        (b"{a:1}", "invalid character 'a' looking for beginning of object key string ({a:1})"),
        (b'{"a" 1}', "invalid character '1' after object key ({\"a\" 1})"),
        (b'{"a":1 "b":2}', 'invalid character \'"\' after object key:value pair ({"a":1 "b":2})'),
        (b'{"a":[1 2]}', "invalid character '2' after array element ({\"a\":[1 2]})"),
        (b'{"a":1}x', "invalid character 'x' after top-level value ({\"a\":1}x)"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value ({\"a\":NaN})"),
    ],
)
def test_malformed_json_is_refused_in_the_decoders_words(body: bytes, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_json(body, expected="Service")
    assert caught.value.message == HEAD + text


def test_long_bodies_are_summarised_by_their_first_bytes() -> None:
    with pytest.raises(BadRequest, match=r"\(\{\"a\": x{24} \.\.\.\)$"):
        decode_json(b'{"a": ' + b"x" * 100, expected="Service")


def test_what_is_no_object_is_refused() -> None:
    for body, word in ((b"[]", "array"), (b'"a"', "string"), (b"1", "number"), (b"true", "bool")):
        with pytest.raises(BadRequest, match=f"cannot unmarshal {word} into Go value"):
            decode_json(body)


@pytest.mark.parametrize(
    ("obj", "problem"),
    [
        ({"apiVersion": 1}, "json: cannot unmarshal number into Go struct field .apiVersion of type string"),
        ({"kind": {}}, "json: cannot unmarshal object into Go struct field .kind of type string"),
        ({"kind": True}, "json: cannot unmarshal bool into Go struct field .kind of type string"),
    ],
)
def test_version_and_kind_must_be_texts(obj: dict[str, Any], problem: str) -> None:
    body = json.dumps(obj).encode()
    with pytest.raises(BadRequest) as caught:
        check_version_and_kind(obj, body, "Service")
    assert caught.value.message.startswith(HEAD + problem)
    check_version_and_kind({"apiVersion": None}, b"{}", "Service")


def test_absurd_depth_and_absurd_numbers_are_bad_requests() -> None:
    for body in (b'{"a":' * 100_000, b'{"a":' + b"[" * 100_000, b'{"a":' + b"9" * 10_000 + b"}"):
        with pytest.raises(BadRequest):
            decode_json(body)


def test_halves_of_surrogate_pairs_become_replacement_characters() -> None:
    assert decode_json(b'{"a":"\\ud800","b":"\\ud83d\\ude00"}')[0] == {"a": "\ufffd", "b": "\U0001f600"}


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=10), JSON))
def test_any_json_object_decodes_to_itself(value: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        assert decode_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == (value, [])


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_give_an_object_or_a_bad_request(body: bytes) -> None:
    for decode in (decode_json, decode_yaml):
        try:
            obj, _ = decode(body)
        except BadRequest:
            continue
        assert isinstance(obj, dict)


@settings(max_examples=300)
@given(
    st.dictionaries(st.text(max_size=5), JSON, max_size=5),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
)
def test_compact_and_spaced_spellings_of_an_object_decode_alike(
    value: dict[str, Any], separators: tuple[str, str], ascii_only: bool
) -> None:
    compact, duplicates = decode_json(
        json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    spelled, more = decode_json(
        json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    )
    assert (compact, duplicates, more) == (spelled, [], [])
    assert repr(compact) == repr(spelled)


@pytest.mark.parametrize(
    ("body", "value", "duplicates"),
    [
        (b'{"a":1,"a":1}', {"a": 1}, ["a"]),
        (b'{"a":{"b":1},"a":{"b":1}}\n', {"a": {"b": 1}}, ["a"]),
        (b'{"a":1.0}', {"a": 1.0}, []),
        (b'{"a":1e3}', {"a": 1000.0}, []),
        (b'{"a":18446744073709551616}', {"a": 2**64}, []),
        (b'{"a":"\\u003c"}', {"a": "<"}, []),
        (b'{"a":"<"}\n\n', {"a": "<"}, []),
    ],
)
def test_no_spelling_hides_a_duplicate_or_changes_a_number(
    body: bytes, value: Any, duplicates: list[str]
) -> None:
    found, paths = decode_json(body)
    assert (repr(found), paths) == (repr(value), duplicates)


def test_yaml_is_read_as_kubernetes_reads_manifests() -> None:
    text = b"a: yes\nb: 2020-01-01\nc: 1:30\nd: '5'\ne: 0x10\nf: 1.5\ng: ~\nh: |\n  12\n1: on\ni: 010\nj: !!str 7\n"
    assert decode_yaml(text) == (
        {"a": True, "b": "2020-01-01", "c": "1:30", "d": "5", "e": 16, "f": 1.5, "g": None, "h": "12\n", "1": True,
         "i": 8, "j": "7"}, [],
    )  # fmt: skip


TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x85\u2028\u2029\ufeff")
) | (
    st.sampled_from(
        [
            "y",
            "N",
            "on",
            "1e3",
            "0o7",
            "08",
            ".inf",
            "-.NAN",
            "1_0",
            "0x1",
            "<<",
            "~",
            "a\nb\n",
            "=",
            "2001-01-01",
        ]
    )
)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("y", True), ("N", False), ("'y'", "y"), ("!!str n", "n"), ("1e3", 1000), ("08", 8), ("1.", 1), ("1.50", 1.5),
        ("1e400", "1e400"), ("1e21", 1e21), (".info", ".info"),
    ],
)  # fmt: skip
def test_yaml_scalars_mean_what_they_mean_to_kubernetes(written: str, value: object) -> None:
    found, _ = decode_yaml(f"a: {written}\n".encode())
    assert repr(found["a"]) == repr(value)


@settings(max_examples=300)
@given(
    st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS) | st.integers(-(2**53), 2**53) | st.booleans() | st.none())
)
def test_what_is_written_as_yaml_is_read_back_the_same(value: dict[str, object]) -> None:
    assert decode_yaml(yamltext.dump(value).encode())[0] == value


def test_a_yaml_key_is_read_as_any_scalar() -> None:
    assert decode_yaml(b"y: 1\n1e3: 2\n")[0] == {"true": 1, "1000": 2}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"a: .inf", "json: unsupported value: \\+Inf"),
        (b"a: -.INF", "json: unsupported value: -Inf"),
        (b"a: .NaN", "json: unsupported value: NaN"),
        (b"a: \xe9\n", "yaml: invalid UTF-8"),
    ],
)
def test_yaml_that_json_cannot_say_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(BadRequest, match=f"error converting YAML to JSON: {told}"):
        decode_yaml(body)


def test_yaml_anchors_merge_keys_and_duplicates() -> None:
    obj, duplicates = decode_yaml(b"base: &b {x: 1, z: 2}\nuse:\n  <<: *b\n  z: 3\nspec: {p: 1, p: 2}\n")
    assert obj == {"base": {"x": 1, "z": 2}, "use": {"x": 1, "z": 3}, "spec": {"p": 2}}
    assert duplicates == ["spec.p"]


def test_exploding_yaml_is_refused() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(BadRequest, match="excessive aliasing"):
        decode_yaml("\n".join(lines).encode())


def test_yaml_that_is_too_much_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamltext, "_MOST_NODES", 10)
    with pytest.raises(BadRequest, match="document holds more than 10 values: send it as JSON"):
        decode_yaml(b"data: [1,2,3,4,5,6,7,8,9,10,11,12]")


def test_yaml_faults_name_the_line() -> None:
    with pytest.raises(BadRequest, match="error converting YAML to JSON: yaml: line 3"):
        decode_yaml(b"a: 1\nb:\n\t- c\n")


def test_a_stream_yields_every_document() -> None:
    assert [value for value, _ in load_all("a: 1\n---\n---\nb: 2\n")] == [{"a": 1}, None, {"b": 2}]


@pytest.mark.parametrize("deep", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_yaml_too_deep_for_a_process_is_refused_before_it_is_composed(deep: str) -> None:
    with pytest.raises(BadRequest, match="exceeded max depth"):
        decode_yaml(deep.encode())


def test_keys_may_be_aliases_of_scalars_and_anchors_of_their_own() -> None:
    assert decode_yaml(b"x: &a 1\n*a : 2\n&k key: {b: *k}\n")[0] == {"x": 1, "1": 2, "key": {"b": "key"}}
    for text in (b"x: &a [1]\n*a : 2\n", b"? [a]\n: 1\n", b"&a [*a]", b"a: *nope"):
        with pytest.raises(BadRequest, match="error converting YAML to JSON: yaml: "):
            decode_yaml(text)
