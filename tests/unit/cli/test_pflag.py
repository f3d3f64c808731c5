"""Command lines as kube-proxy's users write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeport.api.kubeproxy.text import read
from nodeport.cli.pflag import rewritten
from nodeport.cli.proxy import command

BOOLEANS, VALUED = frozenset(("cleanup", "masquerade-all")), frozenset(("config", "v", "master"))


@pytest.mark.parametrize(
    ("line", "understood"),
    [
        ("--cleanup verify", "--cleanup=true verify"),
        ("--cleanup=false", "--cleanup=false"),
        ("--masquerade_all --config a.yaml", "--masquerade-all=true --config=a.yaml"),
        ("--config --cleanup", "--config=--cleanup"),
        ("-v 4", "--v=4"),
        ("-v=4 -v5 --v=6", "--v=4 --v=5 --v=6"),
        ("--config=a=b_c", "--config=a=b_c"),
        ("verify --cleanup", "verify --cleanup"),
        ("--unknown -h", "--unknown -h"),
        ("--config", "--config"),
    ],
)
def test_flags_are_read_as_pflag_reads_them(line: str, understood: str) -> None:
    assert rewritten(line.split(), BOOLEANS, VALUED) == understood.split()


def test_flags_and_files_make_the_configuration_that_is_written(tmp_path: Path) -> None:
    target = tmp_path / "config.yaml"
    line = f"--proxy-mode=iptables --iptables_sync_period 1m --nodeport-addresses=10.0.0.0/8 --metrics-port=0 --write-config-to {target}"
    result = CliRunner().invoke(command, line.split())
    assert (result.exit_code, result.output) == (0, "")
    config = read(target.read_bytes()).config
    assert (config.mode, config.section.syncPeriod.total_seconds()) == ("iptables", 60)
    assert (config.nodePortAddresses, config.metricsBindAddress) == (("10.0.0.0/8",), "")


def test_a_file_is_complained_about_but_used(tmp_path: Path) -> None:
    source, target = tmp_path / "in.yaml", tmp_path / "out.yaml"
    source.write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nmood: good\n"
        "enableProfiling: true\n"
    )
    result = CliRunner().invoke(
        command, [f"--config={source}", "--proxy-mode=iptables", f"--write-config-to={target}"]
    )
    assert 'strict decoding error: unknown field "mood"' in result.stderr
    assert "enableProfiling (--profiling) has no effect" in result.stderr
    assert read(target.read_bytes()).config.mode == "ipvs"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "--conntrack-min=lots",
            'invalid argument "lots" for "--conntrack-min" flag: must be a whole number',
        ),
        ("--proxy-mode=userspace", "failed validate: KubeProxyConfiguration.Mode.ProxyMode: Invalid value"),
        ("--config=/nowhere", "open /nowhere: No such file or directory"),
        ("--network-namespace=/nowhere --init-only", "/nowhere does not exist"),
        ("serve", "takes no arguments but remove-kube-proxy, verify, got 'serve'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(line: str, sentence: str) -> None:
    result = CliRunner().invoke(command, line.split())
    assert result.exit_code in (1, 2)
    assert sentence in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "--conntrack-min=lots verify", "--no-such-flag=1 verify", "--proxy-mode=userspace verify", "verify --proxy-mode=ipvs",
        "--config=/nowhere verify", "verify twice",
    ],
)  # fmt: skip
def test_what_keeps_verify_from_comparing_does_not_look_like_a_difference(line: str) -> None:
    assert CliRunner().invoke(command, line.split()).exit_code == 2


def test_a_bug_in_verify_does_not_look_like_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(given: object) -> None:
        raise ZeroDivisionError("nobody thought of that")

    monkeypatch.setattr("nodeport.cli.proxy.configured", broken)
    result = CliRunner().invoke(command, ["verify"])
    assert result.exit_code == 2
    assert "ZeroDivisionError: nobody thought of that" in result.stderr
    assert isinstance(CliRunner().invoke(command, ["--cleanup"]).exception, ZeroDivisionError)


def test_help_of_verify_is_no_failure() -> None:
    result = CliRunner().invoke(command, ["verify", "--help"])
    assert result.exit_code == 0
    assert "2 if that cannot be told" in " ".join(result.output.split())
