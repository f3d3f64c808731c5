"""The command line of kube-proxy 1.36: what a flag is, and what flags make of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from nodeport.api.kubeproxy.defaults import with_port
from nodeport.api.kubeproxy.forms import Form
from nodeport.api.kubeproxy.types import KubeProxyConfiguration

ALL_MODES: Final = frozenset(("", "iptables", "ipvs", "nftables"))


class Treatment(Enum):
    """What this proxy does with a flag or a field."""

    HONOURED = "honoured"
    IGNORED = "accepted; a warning when it is set to anything but its default"
    OURS = "not kube-proxy's"


@dataclass(frozen=True, slots=True)
class Flag:
    """``path``: the field of the configuration it sets; empty for none. ``section.`` stands for the mode's own.

    ``beside_file``: counts also when ``--config`` is given; all others are then ignored, as by kube-proxy.
    ``why``: what an ignored flag does not do and why, or what differs. ``in_modes``: where it counts.
    """

    name: str
    form: Form
    help: str
    path: str = ""
    treatment: Treatment = Treatment.HONOURED
    why: str = ""
    beside_file: bool = False
    default: str = ""
    in_modes: frozenset[str] = ALL_MODES


def apply_flags(
    config: KubeProxyConfiguration, given: Mapping[Flag, Any], *, beside_file: bool
) -> KubeProxyConfiguration:
    """``given``: read values of the flags on the command line. ``beside_file``: ``config`` comes from a file.

    The mode comes first: it says which section the sync periods belong to.
    """
    for flag in sorted(given, key=lambda flag: flag.path != "mode"):
        if (beside_file and not flag.beside_file) or not flag.path or config.mode not in flag.in_modes:
            continue
        value = given[flag]
        if flag.path == "hostnameOverride":
            value = value.strip().lower()
        config = with_value(config, flag.path, value)
    return config


def with_old_ports(
    config: KubeProxyConfiguration, healthz: int | None, metrics: int | None
) -> KubeProxyConfiguration:
    """``--healthz-port`` and ``--metrics-port``: 0 is off, else the port of an address that names none."""
    return replace(
        config,
        healthzBindAddress=_with_old_port(config.healthzBindAddress, healthz, 10256),
        metricsBindAddress=_with_old_port(config.metricsBindAddress, metrics, 10249),
    )


def _with_old_port(address: str, port: int | None, default: int) -> str:
    return "" if port == 0 else with_port(address, port or default)


def config_value(config: KubeProxyConfiguration, path: str) -> Any:
    """What stands at the dotted ``path``."""
    value: Any = config
    for step in _resolved(config, path).split("."):
        value = getattr(value, step)
    return value


def with_value(config: KubeProxyConfiguration, path: str, value: Any) -> KubeProxyConfiguration:
    made = _replaced(config, _resolved(config, path).split("."), value)
    assert isinstance(made, KubeProxyConfiguration)
    return made


def _resolved(config: KubeProxyConfiguration, path: str) -> str:
    """Masquerading stands under ``iptables`` for IPVS as well."""
    if not path.startswith("section."):
        return path
    field = path.removeprefix("section.")
    with_section = ("nftables",) if field == "masqueradeAll" else ("nftables", "ipvs")
    return f"{config.mode if config.mode in with_section else 'iptables'}.{field}"


def _replaced(value: Struct, steps: Sequence[str], new: Any) -> Struct:
    if len(steps) > 1:
        new = _replaced(getattr(value, steps[0]), steps[1:], new)
    return replace(value, **{steps[0]: new})
