"""Where the API is and who we are for a program that runs in a pod: the environment and the ServiceAccount's mount."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

from nodeport.client.config import ClientConfig

MOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NotInCluster(Exception):
    """What is missing, in client-go's words."""


def load(environment: Mapping[str, str], mount: Path = MOUNT) -> ClientConfig:
    """Read anew each time: the token's file is replaced before the token expires. Raises NotInCluster."""
    host, port = (
        environment.get("KUBERNETES_SERVICE_HOST", ""),
        environment.get("KUBERNETES_SERVICE_PORT", ""),
    )
    if not host or not port:
        raise NotInCluster(
            "unable to load in-cluster configuration, "
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
        )
    try:
        token = (mount / "token").read_text().strip()
        ca = (mount / "ca.crt").read_bytes()
        namespace = mount / "namespace"
        own = namespace.read_text().strip() if namespace.exists() else ""
    except OSError as error:
        raise NotInCluster(f"unable to load in-cluster configuration: {error}") from error
    if not token:
        raise NotInCluster(f"unable to load in-cluster configuration: {mount / 'token'} is empty")
    return ClientConfig(f"https://{_joined(host, port)}", ca, token=token, namespace=own)


def _joined(host: str, port: str) -> str:
    try:
        is_ipv6 = isinstance(ip_address(host), IPv6Address)
    except ValueError:
        is_ipv6 = False
    return f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}"
