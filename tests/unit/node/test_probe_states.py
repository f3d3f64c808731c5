from __future__ import annotations

from datetime import timedelta

import pytest

from nodeport.node.actions import Exec, Grpc, HttpGet, Sleep, TcpSocket, port_number
from nodeport.node.actions import parse as parse_action
from nodeport.node.probes import Outcome, Probe, ProbeKind, ProbeResult, ProbeState, event, parse

RESULTS = {
    "+": ProbeResult(Outcome.SUCCESS), "-": ProbeResult(Outcome.FAILURE, "no"),
    "!": ProbeResult(Outcome.WARNING, "elsewhere"), "?": ProbeResult(Outcome.UNKNOWN, "who knows"),
}  # fmt: skip


def after(state: ProbeState, results: str) -> ProbeState:
    """``results``: ``+`` for a success, ``-`` for a failure, ``!`` for a warning, ``?`` when nobody could ask."""
    for mark in results:
        state = state.record(RESULTS[mark])
    return state


@pytest.mark.parametrize(
    ("results", "verdict"),
    [("", None), ("+", True), ("-", None), ("--", None), ("---", False), ("--+", True), ("+--", True), ("+---", False),
     ("---+", True), ("+-+-+--", True), ("!", True), ("---!", True), ("--?-", False), ("??????", None)],
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


@pytest.mark.parametrize(("port", "number"), [(80, 80), ("81", 81), ("web", 8080), ("other", "other")])
def test_ports_are_found_by_number_or_name(port: int | str, number: int | str) -> None:
    assert port_number(port, {"ports": [{"name": "web", "containerPort": 8080}]}) == number


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("+", None),
        ("-", ("Unhealthy", "Liveness probe failed: no")),
        ("!", ("ProbeWarning", "Liveness probe warning: elsewhere")),
        ("?", ("Unhealthy", "Liveness probe errored and resulted in unknown state: who knows")),
    ],
)
def test_results_are_told_in_a_kubelets_words(result: str, said: tuple[str, str] | None) -> None:
    assert event(ProbeKind.LIVENESS, RESULTS[result]) == said


@pytest.mark.parametrize(
    ("spec", "action"),
    [
        ({"grpc": {"port": 5000, "service": "s"}}, Grpc(5000, "s")),
        ({"grpc": {"port": 5000}}, Grpc(5000)),
        ({"tcpSocket": {"port": "web", "host": "h"}}, TcpSocket(8080, "h")),
        ({"sleep": {"seconds": 3}}, Sleep(3)),
        ({"httpGet": {"port": 1}}, HttpGet(1)),
        ({}, None),
    ],
)
def test_every_kind_of_action_is_known(spec: dict[str, object], action: object) -> None:
    assert parse_action(spec, {"ports": [{"name": "web", "containerPort": 8080}]}) == action


def test_a_probe_may_have_a_grace_period_of_its_own() -> None:
    spec = {"exec": {"command": ["true"]}, "terminationGracePeriodSeconds": 7}
    probe = parse({"livenessProbe": spec}, ProbeKind.LIVENESS)
    assert probe is not None
    assert probe.grace == timedelta(seconds=7)
