"""Metrics: kube-proxy's names, types and labels, and what moves them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.table import (
    Change,
    ClusterIP,
    Family,
    Forwarding,
    Protocol,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)  # fmt: skip
from nodeport.proxy.metrics import ProxyMetrics
from nodeport.proxy.options import Mode
from nodeport.proxy.proxier import RuleCounts
from nodeport.proxy.slimming import TRIGGER_TIME

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAME = ServicePortName(NamespacedName("a", "b"), "http", Protocol.TCP)
REAL = {
    "kubeproxy_conntrack_reconciler_deleted_entries_total": ("counter", ("ip_family",)),
    "kubeproxy_conntrack_reconciler_sync_duration_seconds": ("histogram", ("ip_family",)),
    "kubeproxy_network_programming_duration_seconds": ("histogram", ("ip_family",)),
    "kubeproxy_sync_proxy_rules_duration_seconds": ("histogram", ("ip_family",)),
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending": ("gauge", ()),
    "kubeproxy_sync_proxy_rules_endpoint_changes_total": ("counter", ()),
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": ("gauge", ("ip_family",)),
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds": ("gauge", ("ip_family",)),
    "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total": ("counter", ("ip_family",)),
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total": ("counter", ("ip_family",)),
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total": ("gauge", ("ip_family", "traffic_policy")),
    "kubeproxy_sync_proxy_rules_service_changes_pending": ("gauge", ()),
    "kubeproxy_sync_proxy_rules_service_changes_total": ("counter", ()),
    "kubeproxy_proxy_healthz_total": ("counter", ("code",)),
    "kubeproxy_proxy_livez_total": ("counter", ("code",)),
    "kubeproxy_sync_full_proxy_rules_duration_seconds": ("histogram", ("ip_family",)),
    "kubeproxy_sync_partial_proxy_rules_duration_seconds": ("histogram", ("ip_family",)),
    "rest_client_requests_total": ("counter", ("code", "host", "method")),
    "rest_client_request_duration_seconds": ("histogram", ("host", "verb")),
    "kubernetes_build_info": ("gauge", ("git_version", "major", "minor")),
}


@pytest.fixture
def metrics() -> ProxyMetrics:
    return ProxyMetrics(Mode.NFTABLES, (Family.IPV4, Family.IPV6), STARTED)


def value(metrics: ProxyMetrics, name: str, **labels: str) -> float | None:
    metrics.render()
    return metrics.registry.get_sample_value(name, labels)


def slice_of(trigger: str | None, kind: str = "IPv4") -> dict[str, Any]:
    notes = {TRIGGER_TIME: trigger} if trigger else {}
    return {"metadata": {"name": "s", "annotations": notes}, "addressType": kind}


def forwarding(internal: Verdict, external: Verdict) -> Forwarding:
    def routes(verdict: Verdict) -> Routes:
        return Routes(*[Route(verdict)] * 3)

    return Forwarding((ClusterIP(IPv4Address("10.96.0.9"), 80),), routes(internal), routes(external))


def test_names_types_and_labels_are_kube_proxys(metrics: ProxyMetrics) -> None:
    metrics.health_answered("healthz", 200)
    metrics.health_answered("livez", 503)
    metrics.request_sent("GET", "api:6443", "200", 0.01)
    metrics.programmed(Family.IPV4, 0.1, STARTED, full=True)
    metrics.programmed(Family.IPV4, 0.1, STARTED, full=False)
    metrics.queued(Family.IPV4, STARTED)
    text = metrics.render().decode()
    for name, (kind, labels) in REAL.items():
        assert f"# TYPE {name} {kind}\n" in text
        suffix = "_count" if kind == "histogram" else ""
        (line, *_) = re.findall(rf"^{name}{suffix}(?:\{{(.*)\}})? .*$", text, re.MULTILINE)
        assert tuple(re.findall(r"(\w+)=", line)) == labels, name
    assert "_created" not in text


def test_series_are_there_from_the_start(metrics: ProxyMetrics) -> None:
    assert value(metrics, "kubeproxy_sync_proxy_rules_nftables_sync_failures_total", ip_family="IPv6") == 0
    policy = {"ip_family": "IPv4", "traffic_policy": "internal"}
    assert value(metrics, "kubeproxy_sync_proxy_rules_no_local_endpoints_total", **policy) == 0


def test_the_time_since_the_trigger_is_measured_when_the_kernel_has_it(metrics: ProxyMetrics) -> None:
    name, labels = "kubeproxy_network_programming_duration_seconds", {"ip_family": "IPv4"}
    metrics.slice_changed(slice_of("2026-01-02T03:04:06Z"))
    metrics.slice_changed(slice_of("2026-01-02T03:04:07Z", "IPv6"))
    metrics.slice_changed(slice_of("2025-01-02T03:04:06Z"))  # before the proxy was there
    metrics.slice_changed(slice_of("long ago"))
    metrics.slice_changed(slice_of(None))
    metrics.slice_changed(None)
    assert value(metrics, "kubeproxy_sync_proxy_rules_endpoint_changes_pending") == 6
    assert value(metrics, f"{name}_count", **labels) == 0
    metrics.programmed(Family.IPV4, 0.01, STARTED + timedelta(seconds=3), full=False)
    assert (value(metrics, f"{name}_count", **labels), value(metrics, f"{name}_sum", **labels)) == (1, 2)
    metrics.programmed(Family.IPV4, 0.01, STARTED + timedelta(seconds=9), full=False)
    assert value(metrics, f"{name}_count", **labels) == 1
    assert value(metrics, "kubeproxy_sync_proxy_rules_endpoint_changes_pending") == 0
    assert value(metrics, "kubeproxy_sync_proxy_rules_endpoint_changes_total") == 6


def test_local_policies_without_endpoints_are_counted_while_they_last(metrics: ProxyMetrics) -> None:
    def count(policy: str) -> float | None:
        labels = {"ip_family": "IPv4", "traffic_policy": policy}
        return value(metrics, "kubeproxy_sync_proxy_rules_no_local_endpoints_total", **labels)

    lost, refused = forwarding(Verdict.FORWARD, Verdict.DROP), forwarding(Verdict.REJECT, Verdict.REJECT)
    metrics.settled(Family.IPV4, Change(NAME, None, lost))
    assert (count("internal"), count("external")) == (0, 1)
    assert value(metrics, "nodeport_proxy_service_ports", ip_family="IPv4") == 1
    metrics.settled(Family.IPV4, Change(NAME, lost, refused))
    assert (count("internal"), count("external")) == (0, 0)
    metrics.settled(Family.IPV4, Change(NAME, refused, None))
    assert value(metrics, "nodeport_proxy_service_ports", ip_family="IPv4") == 0


def test_what_failed_was_forgotten_and_was_sent_is_counted(metrics: ProxyMetrics) -> None:
    metrics.failed(Family.IPV4, full=True)
    metrics.forgot(Family.IPV4, 0.002, 7)
    metrics.committed(Family.IPV4, 0.00005)
    metrics.set_sizes(Family.IPV4, {"nodeports": 12})
    assert value(metrics, "kubeproxy_sync_proxy_rules_nftables_sync_failures_total", ip_family="IPv4") == 1
    assert value(metrics, "kubeproxy_conntrack_reconciler_deleted_entries_total", ip_family="IPv4") == 7
    assert value(metrics, "nodeport_proxy_commit_duration_seconds_count", ip_family="IPv4") == 1
    assert value(metrics, "nodeport_proxy_elements", ip_family="IPv4", set="nodeports") == 12


def test_the_modes_have_the_failures_of_their_own() -> None:
    text = ProxyMetrics(Mode.IPTABLES, (Family.IPV4,), STARTED).render().decode()
    assert 'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 0.0' in text
    assert "nftables" not in text
    assert "iptables_total" not in ProxyMetrics(Mode.NFTABLES, (Family.IPV4,), STARTED).render().decode()


def test_rules_are_counted_by_table_and_their_partial_failures_apart() -> None:
    made = ProxyMetrics(Mode.IPTABLES, (Family.IPV4,), STARTED)
    made.set_rules(Family.IPV4, {"nat": RuleCounts(40, 3)})
    made.failed(Family.IPV4, full=True)
    made.failed(Family.IPV4, full=False)
    name = "kubeproxy_sync_proxy_rules_iptables"
    assert value(made, f"{name}_total", table="nat", ip_family="IPv4") == 40
    assert value(made, f"{name}_last", table="nat", ip_family="IPv4") == 3
    assert value(made, f"{name}_restore_failures_total", ip_family="IPv4") == 2
    assert value(made, f"{name}_partial_restore_failures_total", ip_family="IPv4") == 1


def test_two_proxies_in_one_process_do_not_share_counts(metrics: ProxyMetrics) -> None:
    other = ProxyMetrics(Mode.NFTABLES, (Family.IPV4,), STARTED)
    metrics.service_changed()
    assert value(other, "kubeproxy_sync_proxy_rules_service_changes_total") == 0


def test_the_buckets_of_the_programming_latency_are_kube_proxys(metrics: ProxyMetrics) -> None:
    """They begin with 0, for a reason that only its makers know; sums over both proxies need the same ones."""
    text = metrics.render().decode()
    found = re.findall(
        r'kubeproxy_network_programming_duration_seconds_bucket\{ip_family="IPv4",le="([^"]+)"\}', text
    )
    bounds = [float(bound) for bound in found]
    assert bounds[:4] == [0, 0.25, 0.5, 1]
    assert len(bounds) == 1 + 2 + 59 + 12 + 7 + 1
