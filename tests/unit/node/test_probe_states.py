from __future__ import annotations

from datetime import timedelta

import pytest

from nodeport.node.probes import (
    Exec,
    HttpGet,
    Probe,
    ProbeKind,
    ProbeResult,
    ProbeState,
    TcpSocket,
    parse,
    port_number,
)

GOOD, BAD = ProbeResult(True), ProbeResult(False, "no")


def after(state: ProbeState, results: str) -> ProbeState:
    """``results``: ``+`` for a success, ``-`` for a failure."""
    for mark in results:
        state = state.record(GOOD if mark == "+" else BAD)
    return state


@pytest.mark.parametrize(
    ("results", "verdict"),
    [("", None), ("+", True), ("-", None), ("--", None), ("---", False), ("--+", True), ("+--", True), ("+---", False),
     ("---+", True), ("+-+-+--", True)],
)  # fmt: skip
def test_three_failures_in_a_row_decide_and_one_success_does(results: str, verdict: bool | None) -> None:
    assert after(ProbeState(Probe(ProbeKind.READINESS, TcpSocket(1))), results).verdict is verdict


def test_a_success_threshold_counts_successes_in_a_row() -> None:
    probe = Probe(ProbeKind.READINESS, TcpSocket(1), success_threshold=3, failure_threshold=1)
    state = ProbeState(probe)
    assert [after(state, marks).verdict for marks in ("+", "++", "++-", "+++", "+++-")] == [
        None,
        None,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("kind", "restarts"),
    [(ProbeKind.LIVENESS, True), (ProbeKind.STARTUP, True), (ProbeKind.READINESS, False)],
)
def test_failed_liveness_and_startup_probes_end_the_container_readiness_does_not(
    kind: ProbeKind, restarts: bool
) -> None:
    state = ProbeState(Probe(kind, TcpSocket(1), failure_threshold=2))
    assert not after(state, "-").must_restart
    assert after(state, "--").must_restart is restarts


def test_a_probe_is_read_with_all_of_its_fields() -> None:
    container = {
        "ports": [{"name": "web", "containerPort": 8080}],
        "livenessProbe": {
            "httpGet": {"path": "/x", "port": "web", "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]},
            "initialDelaySeconds": 3, "periodSeconds": 4, "timeoutSeconds": 5, "successThreshold": 1,
            "failureThreshold": 7,
        },
    }  # fmt: skip
    assert parse(container, ProbeKind.LIVENESS) == Probe(
        ProbeKind.LIVENESS, HttpGet(8080, "/x", "", "HTTPS", (("A", "b"),)), timedelta(seconds=3),
        timedelta(seconds=4), timedelta(seconds=5), 1, 7,
    )  # fmt: skip
    assert parse(container, ProbeKind.READINESS) is None


def test_absent_fields_have_kubernetes_defaults() -> None:
    probe = parse({"startupProbe": {"exec": {"command": ["true"]}}}, ProbeKind.STARTUP)
    assert probe == Probe(ProbeKind.STARTUP, Exec(("true",)))
    assert probe is not None
    assert (probe.period, probe.timeout, probe.failure_threshold) == (
        timedelta(seconds=10),
        timedelta(seconds=1),
        3,
    )


@pytest.mark.parametrize(("port", "number"), [(80, 80), ("81", 81), ("web", 8080), ("other", 0)])
def test_ports_are_found_by_number_or_name(port: int | str, number: int) -> None:
    assert port_number(port, {"ports": [{"name": "web", "containerPort": 8080}]}) == number
