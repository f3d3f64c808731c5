"""The table of kube-proxy's flags: complete, in step with the fields of the file, and applied in its order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nodeport.api.kubeproxy.defaults import with_defaults
from nodeport.api.kubeproxy.flags import Treatment, apply_flags, config_value, with_old_ports
from nodeport.api.kubeproxy.flagtable import BY_NAME, FIELDS, FLAGS, unheeded
from nodeport.api.kubeproxy.types import KubeProxyConfiguration

STANDARD = with_defaults(KubeProxyConfiguration())
REAL_FLAGS = [
    "add-dir-header",
    "alsologtostderr",
    "bind-address",
    "bind-address-hard-fail",
    "boot-id-file",
    "cleanup",
    "cluster-cidr",
    "config",
    "config-sync-period",
    "conntrack-max-per-core",
    "conntrack-min",
    "conntrack-tcp-be-liberal",
    "conntrack-tcp-timeout-close-wait",
    "conntrack-tcp-timeout-established",
    "conntrack-udp-timeout",
    "conntrack-udp-timeout-stream",
    "detect-local-mode",
    "feature-gates",
    "healthz-bind-address",
    "healthz-port",
    "hostname-override",
    "init-only",
    "iptables-localhost-nodeports",
    "iptables-masquerade-bit",
    "iptables-min-sync-period",
    "iptables-sync-period",
    "ipvs-exclude-cidrs",
    "ipvs-min-sync-period",
    "ipvs-scheduler",
    "ipvs-strict-arp",
    "ipvs-sync-period",
    "ipvs-tcp-timeout",
    "ipvs-tcpfin-timeout",
    "ipvs-udp-timeout",
    "kube-api-burst",
    "kube-api-content-type",
    "kube-api-qps",
    "kubeconfig",
    "log-backtrace-at",
    "log-dir",
    "log-file",
    "log-file-max-size",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream",
    "log-text-info-buffer-size",
    "log-text-split-stream",
    "logging-format",
    "logtostderr",
    "machine-id-file",
    "masquerade-all",
    "master",
    "metrics-bind-address",
    "metrics-port",
    "nodeport-addresses",
    "one-output",
    "oom-score-adj",
    "pod-bridge-interface",
    "pod-interface-name-prefix",
    "profiling",
    "proxy-mode",
    "show-hidden-metrics-for-version",
    "skip-headers",
    "skip-log-headers",
    "stderrthreshold",
    "v",
    "vmodule",
    "write-config-to",
]


def given(**texts: str) -> dict[Any, Any]:
    flags = {BY_NAME[name.replace("_", "-")]: text for name, text in texts.items()}
    return {flag: flag.form.read(text) for flag, text in flags.items()}


def applied(
    config: KubeProxyConfiguration = STANDARD, *, file: bool = False, **texts: str
) -> KubeProxyConfiguration:
    return apply_flags(config, given(**texts), beside_file=file)


def leaves(wanted: Any, path: str = "") -> list[str]:
    found: list[str] = []
    for field in msgspec.structs.fields(wanted):
        where = f"{path}.{field.encode_name}" if path else field.encode_name
        is_struct = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        found += leaves(field.type, where) if is_struct else [where]
    return found


def test_every_flag_of_kube_proxy_is_in_the_table() -> None:
    assert sorted(flag.name for flag in FLAGS if flag.treatment is not Treatment.OURS) == sorted(REAL_FLAGS)


def test_every_field_of_the_file_has_a_flag_or_a_row_of_its_own() -> None:
    rows = {flag.path for flag in FLAGS if not flag.path.startswith("section.")} | {
        field.path for field in FIELDS
    }
    assert set(leaves(KubeProxyConfiguration)) - {"apiVersion", "kind"} == rows - {""}


@pytest.mark.parametrize(
    "flag", [flag for flag in FLAGS if flag.path and flag.default], ids=lambda flag: flag.name
)
def test_defaults_in_the_table_are_those_of_the_configuration(flag: Any) -> None:
    config = msgspec.structs.replace(STANDARD, mode=next(iter(sorted(flag.in_modes))))
    if flag.path not in ("mode", "detectLocalMode"):  # chosen after the flags
        assert config_value(config, flag.path) == flag.form.read(flag.default)


def test_who_is_ignored_says_why() -> None:
    assert all(row.why for row in (*FLAGS, *FIELDS) if row.treatment is Treatment.IGNORED)


def test_sync_periods_go_to_the_section_of_the_mode_whatever_the_order() -> None:
    config = applied(
        iptables_sync_period="1m", ipvs_sync_period="2m", proxy_mode="nftables", masquerade_all="true"
    )
    assert (config.section.syncPeriod.total_seconds(), config.nftables.masqueradeAll) == (60, True)
    assert config.iptables == STANDARD.iptables
    config = applied(
        iptables_sync_period="1m", ipvs_sync_period="2m", proxy_mode="ipvs", masquerade_all="true"
    )
    assert (config.section.syncPeriod.total_seconds(), config.masquerade_all) == (120, True)


def test_beside_a_file_only_few_flags_count() -> None:
    config = applied(
        file=True, hostname_override=" Node-7 ", v="4", cluster_cidr="10.0.0.0/8", proxy_mode="ipvs"
    )
    assert (config.hostnameOverride, config.logging.verbosity) == ("node-7", 4)
    assert (config.clusterCIDR, config.mode) == ("", "")


def test_old_port_flags_switch_off_or_fill_in_the_port() -> None:
    assert with_old_ports(STANDARD, 0, None).healthzBindAddress == ""
    config = applied(healthz_bind_address="10.0.0.1", metrics_bind_address="")
    assert with_old_ports(config, 1234, None).healthzBindAddress == "10.0.0.1:1234"
    assert with_old_ports(config, None, None).metricsBindAddress == ""
    assert (
        with_old_ports(applied(healthz_bind_address="[fd00::1]:7"), 1234, None).healthzBindAddress
        == "[fd00::1]:7"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("masquerade-all", "ja"), ("conntrack-min", "much"), ("conntrack-min", "9999999999"), ("bind-address", "host"),
        ("healthz-bind-address", "host:1"), ("healthz-bind-address", "1.2.3.4:0"), ("iptables-sync-period", "30"),
        ("feature-gates", "A"), ("kube-api-qps", "fast"), ("vmodule", "x"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_read_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        BY_NAME[name].form.read(text)


def test_a_setting_that_does_nothing_here_is_told_only_when_somebody_asked_for_it() -> None:
    assert list(unheeded(STANDARD, {})) == []
    flags = given(profiling="true", log_dir="/var/log", logtostderr="true", feature_gates="X=true")
    told = list(unheeded(apply_flags(STANDARD, flags, beside_file=False), flags))
    assert told == [
        "--log-dir has no effect: logs go to standard error, a line at a time",
        "enableProfiling (--profiling) has no effect: /debug/pprof is the Go runtime's",
        "featureGates (--feature-gates) has no effect: there are no feature gates: what is there is on",
    ]
    as_json = msgspec.structs.replace(STANDARD.clientConnection, contentType="application/json")
    assert list(unheeded(msgspec.structs.replace(STANDARD, clientConnection=as_json), {})) == []


def test_lists_and_gates_are_read_as_pflag_reads_them() -> None:
    assert BY_NAME["nodeport-addresses"].form.read("10.0.0.0/8,fd00::/8") == ("10.0.0.0/8", "fd00::/8")
    assert BY_NAME["nodeport-addresses"].form.read("") == ()
    assert BY_NAME["feature-gates"].form.read("A=true,B=0") == {"A": True, "B": False}
    assert BY_NAME["conntrack-min"].form.read("0x10") == 16
