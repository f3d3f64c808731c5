"""THE table: every flag of kube-proxy 1.36 on Linux, and ours; then the fields of the file that have no flag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nodeport.api.kubeproxy.defaults import PROTOBUF, with_defaults
from nodeport.api.kubeproxy.flags import ALL_MODES, Flag, Treatment, config_value
from nodeport.api.kubeproxy.forms import (
    BOOL,
    DURATION,
    FLOAT,
    GATES,
    INT,
    IP,
    IP_PORT,
    TEXT,
    TEXTS,
    VMODULES,
    Form,
)  # fmt: skip
from nodeport.api.kubeproxy.types import KubeProxyConfiguration

_IGNORED, _OURS = Treatment.IGNORED, Treatment.OURS
_JSON: Final = "this proxy always speaks JSON"
_AT_ONCE: Final = "in nftables mode a change is committed at once, at any number of Services"
_MARKS: Final = "this proxy sets no packet marks: masquerading is decided from the connection itself"
_FILE: Final = "A KubeProxyConfiguration file. All other flags are then ignored but for those that say so."
_KUBECONFIG: Final = (
    "How to reach the API; read again when it or a file that it names changes.  [default: in-cluster]"
)
_HOSTNAME: Final = "The name of this node's Node object. Counts beside --config.  [default: the host name]"
_BIND: Final = "The node's primary address in place of the Node object's. Nothing is bound to it."
_LOCAL: Final = "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix"
_SYNC: Final = "A change that waits for the kernel twice as long makes the proxy unhealthy"

_HONOURED: Final = (
    ("config", TEXT, "", "", _FILE),
    ("write-config-to", TEXT, "", "", "Write the configuration that the flags make to this file, and exit."),
    ("cleanup", BOOL, "", "", "Remove the rules of all modes, and exit."),
    ("init-only", BOOL, "", "", "Do what needs full root privileges (conntrack limits), and exit."),
    ("kubeconfig", TEXT, "clientConnection.kubeconfig", "", _KUBECONFIG),
    ("master", TEXT, "", "", "The URL of the API in place of the kubeconfig's. Counts beside --config."),
    ("hostname-override", TEXT, "hostnameOverride", "", _HOSTNAME),
    ("bind-address", IP, "bindAddress", "0.0.0.0", _BIND),
    ("bind-address-hard-fail", BOOL, "bindAddressHardFail", "false", "Exit when a server's address cannot be bound."),
    ("healthz-bind-address", IP_PORT, "healthzBindAddress", "0.0.0.0:10256", "Of /healthz and /livez; empty: none."),
    ("healthz-port", INT, "", "10256", "Deprecated: the port of --healthz-bind-address; 0: none."),
    ("metrics-bind-address", IP_PORT, "metricsBindAddress", "127.0.0.1:10249", "Of /metrics; empty: none."),
    ("metrics-port", INT, "", "10249", "Deprecated: the port of --metrics-bind-address; 0: none."),
    ("show-hidden-metrics-for-version", TEXT, "showHiddenMetricsForVersion", "", "Checked; no metric is hidden."),
    ("proxy-mode", TEXT, "mode", "nftables", "nftables, iptables or ipvs."),
    ("nodeport-addresses", TEXTS, "nodePortAddresses", "", "Where NodePorts answer: CIDRs, or primary."),
    ("detect-local-mode", TEXT, "detectLocalMode", "ClusterCIDR", f"How to tell pods: {_LOCAL}."),
    ("pod-bridge-interface", TEXT, "detectLocal.bridgeInterface", "", "The bridge of the pods, for BridgeInterface."),
    ("pod-interface-name-prefix", TEXT, "detectLocal.interfaceNamePrefix", "", "For InterfaceNamePrefix."),
    ("cluster-cidr", TEXT, "clusterCIDR", "", "The addresses of the cluster's pods; a pair for dual-stack."),
    ("masquerade-all", BOOL, "section.masqueradeAll", "false",
     "Masquerade all traffic to ClusterIPs; no client's address is kept then, whatever --keep-client-address says."),
    ("oom-score-adj", INT, "oomScoreAdj", "-999", "This process' score for the out-of-memory killer."),
    ("conntrack-max-per-core", INT, "conntrack.maxPerCore", "32768", "Tracked connections per core; 0: leave it."),
    ("conntrack-min", INT, "conntrack.min", "131072", "The least limit of tracked connections."),
    ("conntrack-tcp-timeout-established", DURATION, "conntrack.tcpEstablishedTimeout", "24h0m0s", "0: leave it."),
    ("conntrack-tcp-timeout-close-wait", DURATION, "conntrack.tcpCloseWaitTimeout", "1h0m0s", "0: leave it."),
    ("conntrack-tcp-be-liberal", BOOL, "conntrack.tcpBeLiberal", "false", "Packets out of the window are valid."),
    ("conntrack-udp-timeout", DURATION, "conntrack.udpTimeout", "0s", "Of unreplied connections; 0: leave it."),
    ("conntrack-udp-timeout-stream", DURATION, "conntrack.udpStreamTimeout", "0s", "Of assured ones; 0: leave it."),
    ("iptables-localhost-nodeports", BOOL, "iptables.localhostNodePorts", "true", "NodePorts on 127.0.0.1."),
    ("iptables-sync-period", DURATION, "section.syncPeriod", "30s", f"{_SYNC}."),
    ("iptables-min-sync-period", DURATION, "section.minSyncPeriod", "1s", "The least time between two commits."),
    ("ipvs-sync-period", DURATION, "section.syncPeriod", "30s", f"{_SYNC}, in ipvs mode."),
    ("ipvs-min-sync-period", DURATION, "section.minSyncPeriod", "0s", "The same in ipvs mode."),
    ("ipvs-scheduler", TEXT, "ipvs.scheduler", "", "The scheduler of ipvs mode.  [default: rr]"),
    ("ipvs-tcp-timeout", DURATION, "ipvs.tcpTimeout", "0s", "Of idle TCP connections; 0: a day."),
    ("ipvs-tcpfin-timeout", DURATION, "ipvs.tcpFinTimeout", "0s", "Of TCP connections after a FIN; 0: leave it."),
    ("ipvs-udp-timeout", DURATION, "ipvs.udpTimeout", "0s", "Of UDP packets; 0: leave it."),
    ("v", INT, "logging.verbosity", "0", "Verbosity: 4 and above tell every commit. Counts beside --config."),
    ("logging-format", TEXT, "logging.format", "text", "text or json. Counts beside --config."),
)  # fmt: skip
"""Name, form, path, default, help."""

_UNHEEDED: Final = (
    (_JSON, (("kube-api-content-type", TEXT, "clientConnection.contentType", PROTOBUF),)),
    ("a handful of requests and some watches leave nothing to slow down", (
        ("kube-api-burst", INT, "clientConnection.burst", "10"),
        ("kube-api-qps", FLOAT, "clientConnection.qps", "5"),
    )),
    ("/debug/pprof is the Go runtime's", (("profiling", BOOL, "enableProfiling", "false"),)),
    ("there are no feature gates: what is there is on", (("feature-gates", GATES, "featureGates", ""),)),
    ("watches resume, and lists are compared when there is doubt; nothing is read again by the clock", (
        ("config-sync-period", DURATION, "configSyncPeriod", "15m0s"),
    )),
    ("virtual services of others are left alone wherever they are, but at the addresses of Services", (
        ("ipvs-exclude-cidrs", TEXTS, "ipvs.excludeCIDRs", ""),
    )),
    ("ipvs mode never answers ARP for addresses of Services: a table of family arp sees to it", (
        ("ipvs-strict-arp", BOOL, "ipvs.strictARP", "false"),
    )),
    (_MARKS, (("iptables-masquerade-bit", INT, "iptables.masqueradeBit", "14"),)),
    ("there are no source files of Go", (("vmodule", VMODULES, "logging.vmodule", ""),)),
    ("logs go to standard error, a line at a time", (
        ("log-flush-frequency", DURATION, "logging.flushFrequency", "5s"),
        ("log-text-split-stream", BOOL, "logging.options.text.splitStream", "false"),
        ("log-text-info-buffer-size", TEXT, "logging.options.text.infoBufferSize", "0"),
        ("log-json-split-stream", BOOL, "logging.options.json.splitStream", "false"),
        ("log-json-info-buffer-size", TEXT, "logging.options.json.infoBufferSize", "0"),
        ("add-dir-header", BOOL, "", "false"), ("alsologtostderr", BOOL, "", "false"),
        ("log-backtrace-at", TEXT, "", ":0"), ("log-dir", TEXT, "", ""), ("log-file", TEXT, "", ""),
        ("log-file-max-size", INT, "", "1800"), ("logtostderr", BOOL, "", "true"),
        ("one-output", BOOL, "", "false"), ("skip-headers", BOOL, "", "false"),
        ("skip-log-headers", BOOL, "", "false"), ("stderrthreshold", TEXT, "", "2"),
    )),
    ("the machine's identity is not needed", (
        ("boot-id-file", TEXT, "", "/proc/sys/kernel/random/boot_id"),
        ("machine-id-file", TEXT, "", "/etc/machine-id,/var/lib/dbus/machine-id"),
    )),
)  # fmt: skip
"""Why nothing comes of it, and the flags: name, form, path, default."""

_OWN: Final = (
    ("also-kube-proxy", BOOL, "false", "With --cleanup: remove what kube-proxy has left on this node, too."),
    ("keep-client-address", BOOL, "true", "Do not masquerade towards endpoints on this node; false: kube-proxy's way."),
    ("localhost-nodeports", BOOL, "false", "NodePorts answer the node on 127.0.0.1 and ::1 in the other modes, too."),
    ("service-counters", BOOL, "false", "Count each Service's packets and bytes for /metrics: a lookup a packet."),
    ("network-namespace", TEXT, "", "Program this network namespace (a path) and serve in it."),
)  # fmt: skip

_NOTES: Final = {
    "proxy-mode": "kube-proxy's default is iptables",
    "nodeport-addresses": "unset: primary in nftables mode, all local addresses in the others, as in kube-proxy",
    "iptables-min-sync-period": f"counts in iptables mode: {_AT_ONCE}",
}
_BESIDE_FILE: Final = frozenset((
    "config", "write-config-to", "cleanup", "init-only", "master", "hostname-override", "v", "logging-format"
))  # fmt: skip


def _flags() -> Iterator[Flag]:
    for name, form, path, default, text in _HONOURED:
        yield Flag(
            name, form, text, path, why=_NOTES.get(name, ""), beside_file=name in _BESIDE_FILE, default=default,
            in_modes=_modes(name, path),
        )  # fmt: skip
    for why, rows in _UNHEEDED:
        for name, form, path, default in rows:
            about_logs = not path or path.startswith("logging.")
            yield Flag(name, form, f"Accepted: {why}.", path, _IGNORED, why, about_logs, default)
    for name, form, default, text in _OWN:
        yield Flag(name, form, text, "", _OURS, "", True, default)


def _modes(name: str, path: str) -> frozenset[str]:
    """Sync periods are of one mode; kube-proxy lets the iptables ones count for nftables as well."""
    if not path.endswith("yncPeriod") or not path.startswith("section."):
        return ALL_MODES
    return frozenset(("ipvs",)) if name.startswith("ipvs-") else ALL_MODES - {"ipvs"}


FLAGS: Final[tuple[Flag, ...]] = tuple(_flags())
BY_NAME: Final[Mapping[str, Flag]] = {flag.name: flag for flag in FLAGS}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the file without a flag of its own."""

    path: str
    treatment: Treatment
    why: str = ""


FIELDS: Final[tuple[Field, ...]] = (
    Field("clientConnection.acceptContentTypes", _IGNORED, _JSON),
    Field("nftables.masqueradeAll", Treatment.HONOURED, "as --masquerade-all, in nftables mode"),
    Field("nftables.masqueradeBit", _IGNORED, _MARKS),
    Field("nftables.syncPeriod", Treatment.HONOURED, "as --iptables-sync-period, in nftables mode"),
    Field("nftables.minSyncPeriod", Treatment.HONOURED, _AT_ONCE),
    Field("iptables.masqueradeAll", Treatment.HONOURED, "as --masquerade-all, in the other modes"),
    Field("iptables.syncPeriod", Treatment.HONOURED),
    Field("iptables.minSyncPeriod", Treatment.HONOURED),
    Field("ipvs.syncPeriod", Treatment.HONOURED),
    Field("ipvs.minSyncPeriod", Treatment.HONOURED),
    *(
        Field(f"winkernel.{name}", _IGNORED, "for Windows")
        for name in ("networkName", "sourceVip", "enableDSR", "rootHnsEndpointName", "forwardHealthCheckVip")
    ),
    Field("windowsRunAsService", _IGNORED, "for Windows"),
    Field("portRange", _IGNORED, "unused by kube-proxy too"),
)  # fmt: skip


def unheeded(config: KubeProxyConfiguration, given: Mapping[Flag, Any]) -> Iterator[str]:
    """A warning for each setting that does nothing here though somebody asked for it.

    ``config`` with defaults; ``given``: the flags on the command line.
    """
    standard = with_defaults(KubeProxyConfiguration())
    for flag, value in given.items():
        if flag.treatment is _IGNORED and not flag.path and value != _default(flag):
            yield f"--{flag.name} has no effect: {flag.why}"
    for path, name, why in _ignored_fields():
        value = config_value(config, path)
        if value not in (config_value(standard, path), None, "", (), {}, "application/json"):
            yield f"{name} has no effect: {why}"


def _ignored_fields() -> Iterable[tuple[str, str, str]]:
    """Path, what to call it, and why it does nothing."""
    for flag in FLAGS:
        if flag.path and flag.treatment is _IGNORED:
            yield flag.path, f"{flag.path} (--{flag.name})", flag.why
    for field in FIELDS:
        if field.treatment is _IGNORED:
            yield field.path, field.path, field.why


def _default(flag: Flag) -> Any:
    form: Form = flag.form
    return form.read(flag.default) if flag.default else ""
