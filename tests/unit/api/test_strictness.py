"""Which complaints strict decoding has, and in which order."""

from __future__ import annotations

from nodeport.api.decoding import decode_json, decode_yaml
from nodeport.api.schema import check
from nodeport.api.strictness import problems_of, warnings_of

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
JSON = b"""{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
  "unknown1": "val1", "unknownDupe": "valDupe", "unknownDupe": "valDupe2", "paused": true, "paused": false,
  "selector": {"matchLabels": {"app": "nginx"}},
  "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {"containers": [
    {"name": "nginx", "image": "nginx:latest", "unknownNested": "val1", "imagePullPolicy": "Always",
     "imagePullPolicy": "Never"}]}}}}"""
YAML = b"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: d
spec:
  unknown1: val1
  unknownDupe: valDupe
  unknownDupe: valDupe2
  paused: true
  paused: false
  template:
    spec:
      containers:
      - name: nginx
        unknownNested: val1
        imagePullPolicy: Always
        imagePullPolicy: Never
"""
SORTED = [
    'unknown field "spec.template.spec.containers[0].unknownNested"',
    'unknown field "spec.unknown1"',
    'unknown field "spec.unknownDupe"',
]


def test_json_is_complained_about_as_it_is_read() -> None:
    obj, repeats = decode_json(JSON)
    assert problems_of(check(DEPLOYMENT, obj).unknown, repeats) == [
        'unknown field "spec.unknown1"',
        'unknown field "spec.unknownDupe"',
        'duplicate field "spec.paused"',
        'unknown field "spec.template.spec.containers[0].unknownNested"',
        'duplicate field "spec.template.spec.containers[0].imagePullPolicy"',
    ]


def test_yaml_is_complained_about_by_its_lines() -> None:
    obj, repeats = decode_yaml(YAML)
    lines = [
        'line 8: key "unknownDupe" already set in map',
        'line 10: key "paused" already set in map',
        'line 17: key "imagePullPolicy" already set in map',
    ]
    problems = problems_of(check(DEPLOYMENT, obj).unknown, repeats)
    assert problems == ["yaml: unmarshal errors:\n  " + "\n  ".join(lines), *SORTED]
    assert warnings_of(problems) == [*lines, *SORTED]


def test_yaml_without_repetitions_is_still_read_sorted() -> None:
    obj, repeats = decode_yaml(b"spec: {b1: 1, a1: 2, template: {c1: 3}}")
    assert problems_of(check(DEPLOYMENT, obj).unknown, repeats) == [
        'unknown field "spec.a1"', 'unknown field "spec.b1"', 'unknown field "spec.template.c1"',
    ]  # fmt: skip


def test_what_a_patch_gives_twice_comes_before_what_it_made() -> None:
    obj, repeats = decode_json(JSON)
    assert problems_of(check(DEPLOYMENT, obj).unknown, repeats, patched=True) == [
        'duplicate field "spec.unknownDupe"',
        'duplicate field "spec.paused"',
        'duplicate field "spec.template.spec.containers[0].imagePullPolicy"',
        *SORTED,
    ]


def test_indexes_sort_as_numbers() -> None:
    assert problems_of(["a[10].x", "a[9].x", "a[9].b"], [], patched=True) == [
        'unknown field "a[9].b"', 'unknown field "a[9].x"', 'unknown field "a[10].x"',
    ]  # fmt: skip
