"""The proxy's metrics under kube-proxy's names, types, labels and buckets; then our own (``nodeport_proxy_``)."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nodeport import KUBERNETES_VERSION, __version__
from nodeport.api import meta
from nodeport.api.meta import JsonObject
from nodeport.forwarding.table import Change, Family, Forwarding, ServicePortName, Verdict
from nodeport.kit.clock import parse_rfc3339
from nodeport.proxy.health import FAMILY_NAMES
from nodeport.proxy.options import Mode
from nodeport.proxy.proxier import RuleCounts, Traffic
from nodeport.proxy.slimming import TRIGGER_TIME

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SYNC_BUCKETS: Final = tuple(0.001 * 2**power for power in range(15))
_PROGRAMMING_BUCKETS: Final = (0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
_COMMIT_BUCKETS: Final = tuple(1e-05 * 2**power for power in range(18))
_REQUEST_BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_SYNC: Final = "kubeproxy_sync_proxy_rules"
_FAMILY: Final = ("ip_family",)
_POLICIES: Final = ("internal", "external")

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # kube-proxy has no ``_created`` series


@dataclass(frozen=True, slots=True)
class _FamilySeries:
    """The series of one family, found once: to look up a label costs more than to count."""

    duration: Histogram
    full: Histogram
    partial: Histogram
    latency: Histogram
    updated: Gauge
    queued: Gauge
    conntrack: Histogram
    forgotten: Counter
    failures: Counter
    commit: Histogram
    ports: Gauge


@dataclass(frozen=True, slots=True)
class _RuleSeries:
    """What mode iptables has and the others have not."""

    total: Gauge
    last: Gauge
    partial_failures: Counter


class ProxyMetrics:
    """An ``Observer`` that counts. ``registry`` is its own: several proxies may live in one process."""

    def __init__(self, mode: Mode, families: Iterable[Family], started: datetime) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._started = started
        self._triggers: dict[Family, list[datetime]] = {family: [] for family in families}
        self._no_local: dict[Family, Tally[str]] = {family: Tally() for family in self._triggers}
        self._of: dict[Family, _FamilySeries] = {}
        self._make_sync()
        self._make_counts(mode)
        self._make_own()
        self._make_client()
        self._traffic = _TrafficCollector()
        self.registry.register(self._traffic)
        ProcessCollector(registry=self.registry)
        for family in self._triggers:
            self._touch(family)

    # --- making

    def _make_sync(self) -> None:
        registry = self.registry
        self._duration = Histogram(
            f"{_SYNC}_duration_seconds", "SyncProxyRules latency in seconds", _FAMILY,
            buckets=_SYNC_BUCKETS, registry=registry,
        )  # fmt: skip
        self._full = Histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs",
            _FAMILY, buckets=_SYNC_BUCKETS, registry=registry,
        )  # fmt: skip
        self._partial = Histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for partial resyncs", _FAMILY, buckets=_SYNC_BUCKETS, registry=registry,
        )  # fmt: skip
        self._latency = Histogram(
            "kubeproxy_network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds",
            _FAMILY, buckets=_PROGRAMMING_BUCKETS, registry=registry,
        )  # fmt: skip
        self._updated = self._gauge(
            "last_timestamp_seconds", "The last time proxy rules were successfully synced", _FAMILY
        )
        self._queued = self._gauge(
            "last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", _FAMILY
        )
        self._conntrack = Histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds",
            _FAMILY, buckets=_SYNC_BUCKETS, registry=registry,
        )  # fmt: skip
        self._forgotten = Counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Cumulative conntrack flows deleted by conntrack reconciler", _FAMILY, registry=registry,
        )  # fmt: skip

    def _make_counts(self, mode: Mode) -> None:
        self._slices_pending = self._gauge("endpoint_changes_pending", "Pending proxy rules Endpoint changes")
        self._slices_total = self._counter(
            "endpoint_changes_total", "Cumulative proxy rules Endpoint changes"
        )
        self._services_pending = self._gauge("service_changes_pending", "Pending proxy rules Service changes")
        self._services_total = self._counter(
            "service_changes_total", "Cumulative proxy rules Service changes"
        )
        self._no_local_endpoints = self._gauge(
            "no_local_endpoints_total", "Number of services with a Local traffic policy and no endpoints",
            (*_FAMILY, "traffic_policy"),
        )  # fmt: skip
        failures = {
            Mode.NFTABLES: ("nftables_sync_failures_total", "Cumulative proxy nftables sync failures"),
            Mode.IPTABLES: ("iptables_restore_failures_total", "Cumulative proxy iptables restore failures"),
            Mode.IPVS: ("iptables_restore_failures_total", "Cumulative proxy iptables restore failures"),
        }
        self._failures = self._counter(*failures[mode], _FAMILY)
        self._rules = self._rule_series() if mode is Mode.IPTABLES else None
        self._cleanup_failures = (
            self._counter(
                "nftables_cleanup_failures_total", "Cumulative proxy nftables cleanup failures", _FAMILY
            )
            if mode is Mode.NFTABLES
            else None
        )
        self._answers = {
            name: Counter(
                f"kubeproxy_proxy_{name}_total", f"Cumulative proxy {name} HTTP status", ("code",),
                registry=self.registry,
            )
            for name in ("healthz", "livez")
        }  # fmt: skip

    def _rule_series(self) -> _RuleSeries:
        by_table = ("table", *_FAMILY)
        return _RuleSeries(
            self._gauge("iptables_total", "Total number of iptables rules owned by kube-proxy", by_table),
            self._gauge("iptables_last", "Number of iptables rules written by kube-proxy in last sync", by_table),
            self._counter(
                "iptables_partial_restore_failures_total", "Cumulative proxy iptables partial restore failures",
                _FAMILY,
            ),
        )  # fmt: skip

    def _make_own(self) -> None:
        registry = self.registry
        self._commit = Histogram(
            "nodeport_proxy_commit_duration_seconds", "One commit of changes to the kernel, in seconds", _FAMILY,
            buckets=_COMMIT_BUCKETS, registry=registry,
        )  # fmt: skip
        self._elements = Gauge(
            "nodeport_proxy_elements", "Elements of each set that the proxy has in the kernel", (*_FAMILY, "set"),
            registry=registry,
        )  # fmt: skip
        self._ports = Gauge(
            "nodeport_proxy_service_ports", "Service ports in force", _FAMILY, registry=registry
        )
        self._kube_proxy = Gauge(
            "nodeport_proxy_kube_proxy_leftovers",
            "Kinds of rules that kube-proxy has on this node, which may be out of date", registry=registry,
        )  # fmt: skip
        Gauge(
            "nodeport_build_info", "A constant 1, labelled by version", ("version",), registry=registry
        ).labels(__version__).set(1)
        major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".", 2)
        Gauge(
            "kubernetes_build_info", "A constant 1: the Kubernetes release whose behaviour this follows",
            ("major", "minor", "git_version"), registry=registry,
        ).labels(major, minor, KUBERNETES_VERSION).set(1)  # fmt: skip

    def _make_client(self) -> None:
        self._requests = Counter(
            "rest_client_requests_total", "Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "host", "method"), registry=self.registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "rest_client_request_duration_seconds", "Request latency in seconds. Broken down by verb, and host.",
            ("host", "verb"), buckets=_REQUEST_BUCKETS, registry=self.registry,
        )  # fmt: skip

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"{_SYNC}_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"{_SYNC}_{name}", text, labels, registry=self.registry)

    def _touch(self, family: Family) -> None:
        """Series that are there from the start, at zero."""
        name = FAMILY_NAMES[family]
        self._of[family] = _FamilySeries(
            self._duration.labels(name), self._full.labels(name), self._partial.labels(name),
            self._latency.labels(name), self._updated.labels(name), self._queued.labels(name),
            self._conntrack.labels(name), self._forgotten.labels(name), self._failures.labels(name),
            self._commit.labels(name), self._ports.labels(name),
        )  # fmt: skip
        if self._cleanup_failures is not None:
            self._cleanup_failures.labels(name)
        if self._rules is not None:
            self._rules.partial_failures.labels(name)
        for policy in _POLICIES:
            self._no_local_endpoints.labels(name, policy).set(0)

    # --- being told

    def service_changed(self) -> None:
        self._services_total.inc()
        self._services_pending.inc()

    def slice_changed(self, item: JsonObject | None) -> None:
        self._slices_total.inc()
        self._slices_pending.inc()
        if item is None:
            return
        family = Family.IPV6 if item.get("addressType") == "IPv6" else Family.IPV4
        text = meta.annotations(item).get(TRIGGER_TIME, "")
        if text and family in self._triggers:
            self._remember_trigger(family, text)

    def _remember_trigger(self, family: Family, text: str) -> None:
        """What was triggered before we started says nothing about us."""
        try:
            moment = parse_rfc3339(text)
        except ValueError:
            return
        if moment >= self._started:
            self._triggers[family].append(moment)

    def queued(self, family: Family, now: datetime) -> None:
        self._of[family].queued.set(now.timestamp())

    def settled(self, family: Family, change: Change) -> None:
        counts = self._no_local[family]
        for forwarding, step in ((change.old, -1), (change.new, 1)):
            for policy in _without_local(forwarding):
                counts[policy] += step
        if (change.old is None) != (change.new is None):
            self._of[family].ports.inc(1 if change.old is None else -1)

    def committed(self, family: Family, seconds: float) -> None:
        self._of[family].commit.observe(seconds)

    def programmed(self, family: Family, seconds: float, now: datetime, *, full: bool) -> None:
        series = self._of[family]
        series.duration.observe(seconds)
        (series.full if full else series.partial).observe(seconds)
        series.updated.set(now.timestamp())
        triggers, self._triggers[family] = self._triggers[family], []
        for moment in triggers:
            series.latency.observe(max(0.0, (now - moment).total_seconds()))
        self._slices_pending.set(0)
        self._services_pending.set(0)

    def failed(self, family: Family, *, full: bool) -> None:
        self._of[family].failures.inc()
        if self._rules is not None and not full:
            self._rules.partial_failures.labels(FAMILY_NAMES[family]).inc()

    def forgot(self, family: Family, seconds: float, entries: int) -> None:
        self._of[family].conntrack.observe(seconds)
        self._of[family].forgotten.inc(entries)

    def health_answered(self, endpoint: str, status: int) -> None:
        self._answers[endpoint].labels(str(status)).inc()

    def kube_proxy_found(self, kinds: int) -> None:
        self._kube_proxy.set(kinds)

    def request_sent(self, method: str, host: str, code: str, seconds: float) -> None:
        """An ``Observer`` of the REST client."""
        self._requests.labels(code, host, method).inc()
        self._request_seconds.labels(host, method).observe(seconds)

    # --- being asked

    def set_sizes(self, family: Family, sizes: Mapping[str, int]) -> None:
        """How many elements each set has; asked for when somebody scrapes."""
        for name, size in sizes.items():
            self._elements.labels(FAMILY_NAMES[family], name).set(size)

    def set_rules(self, family: Family, counts: Mapping[str, RuleCounts]) -> None:
        """How many rules each table of iptables has of ours; asked for when somebody scrapes."""
        if self._rules is not None:
            for table, found in counts.items():
                self._rules.total.labels(table, FAMILY_NAMES[family]).set(found.total)
                self._rules.last.labels(table, FAMILY_NAMES[family]).set(found.last)

    def set_traffic(self, traffic: Mapping[Family, Mapping[ServicePortName, Traffic]]) -> None:
        """What was counted of each Service port, if anything was."""
        self._traffic.found = traffic

    def render(self) -> bytes:
        """All of it as text. Slow enough for a thread: half a millisecond a hundred series."""
        for family, counts in self._no_local.items():
            for policy in _POLICIES:
                self._no_local_endpoints.labels(FAMILY_NAMES[family], policy).set(counts[policy])
        return generate_latest(self.registry)


class _TrafficCollector(Collector):
    """The Services' packets and bytes as they were last read."""

    def __init__(self) -> None:
        self.found: Mapping[Family, Mapping[ServicePortName, Traffic]] = {}

    def collect(self) -> Iterable[Metric]:
        if not self.found:
            return
        labels = ("ip_family", "namespace", "service", "port", "protocol", "direction")
        packets = CounterMetricFamily(
            "nodeport_proxy_service_packets", "Packets to and from each Service port", labels=labels
        )
        sizes = CounterMetricFamily(
            "nodeport_proxy_service_bytes",
            "Bytes of the packets to and from each Service port",
            labels=labels,
        )
        for family, counted in self.found.items():
            for name, traffic in counted.items():
                key = (
                    FAMILY_NAMES[family], name.service.namespace, name.service.name, name.port, name.protocol.name
                )  # fmt: skip
                packets.add_metric((*key, "to"), traffic.packets_to)
                packets.add_metric((*key, "from"), traffic.packets_from)
                sizes.add_metric((*key, "to"), traffic.bytes_to)
                sizes.add_metric((*key, "from"), traffic.bytes_from)
        yield packets
        yield sizes


def _without_local(forwarding: Forwarding | None) -> Iterable[str]:
    """The Local policies of a Service port that leave its packets nowhere to go on this node."""
    if forwarding is None:
        return
    for policy, routes in zip(_POLICIES, (forwarding.internal, forwarding.external), strict=True):
        if routes.outside.verdict is Verdict.DROP:
            yield policy
