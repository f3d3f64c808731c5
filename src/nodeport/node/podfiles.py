"""What a pod is called, and its /etc/hosts, /etc/hostname and /etc/resolv.conf. Pure.

Rule source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/ ; the files are a kubelet's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nodeport.api.clusterdns import CLUSTER_DOMAIN
from nodeport.api.meta import JsonObject

LONGEST_LABEL, LONGEST_HOSTNAME = 63, 64
MANAGED = "# Kubernetes-managed hosts file."
MANAGED_ON_HOST = "# Kubernetes-managed hosts file (host network)."
ALIASES = "# Entries added by HostAliases."
_STANDARD_HOSTS = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
)
_DEFAULT_OPTIONS = ("ndots:5",)


class HostnameTooLong(Exception):
    """The pod cannot be called what it wants; the text is the event's."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says; ``options`` as they stand there."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def render(self) -> str:
        lines = []
        if self.searches:
            lines.append("search " + " ".join(self.searches))
        lines += [f"nameserver {server}" for server in self.nameservers]
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class NodeNaming:
    """What names mean on this node. ``cluster_dns``: the addresses of the cluster's name servers; ``own``: the node's
    resolv.conf; ``hosts``: the text of its /etc/hosts."""

    name: str
    cluster_dns: tuple[str, ...] = ()
    own: Resolver = field(default_factory=Resolver)
    hosts: str = ""


def parse_resolver(text: str) -> Resolver:
    """A resolv.conf; of two ``search`` lines the last one counts."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        match words:
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *names]:
                searches = tuple(names)
            case ["options", *found]:
                options += found
    return Resolver(tuple(servers), searches, tuple(options))


def short_hostname(pod: JsonObject, node_name: str) -> str:
    """What the pod calls itself, without a domain; on the node's network: what the node is called."""
    spec = pod["spec"]
    if spec.get("hostnameOverride"):
        return str(spec["hostnameOverride"])
    if spec.get("hostNetwork"):
        return node_name
    name = str(spec.get("hostname") or pod["metadata"]["name"])
    return name[:LONGEST_LABEL].rstrip("-.")


def domain(pod: JsonObject) -> str:
    """The pod's domain; empty without a subdomain."""
    spec = pod["spec"]
    if not spec.get("subdomain") or spec.get("hostnameOverride") or spec.get("hostNetwork"):
        return ""
    return f"{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{CLUSTER_DOMAIN}"


def hostname(pod: JsonObject, node_name: str) -> str:
    """What the kernel is to call the pod. Raises HostnameTooLong."""
    short, where = short_hostname(pod, node_name), domain(pod)
    if not (where and pod["spec"].get("setHostnameAsFQDN")):
        return short
    whole = f"{short}.{where}"
    if len(whole) > LONGEST_HOSTNAME:
        raise HostnameTooLong(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {whole} is too long "
            f"({LONGEST_HOSTNAME} characters is the max, {len(whole)} characters requested)"
        )
    return whole


def hosts(pod: JsonObject, addresses: Sequence[str], node: NodeNaming) -> str:
    if pod["spec"].get("hostNetwork"):
        lines = [MANAGED_ON_HOST, *node.hosts.splitlines()]
    else:
        short, where = short_hostname(pod, node.name), domain(pod)
        names = f"{short}.{where}\t{short}" if where else short
        lines = [MANAGED, *_STANDARD_HOSTS, *(f"{address}\t{names}" for address in addresses)]
    if aliases := pod["spec"].get("hostAliases"):
        lines += ["", ALIASES]
        lines += ["\t".join((alias["ip"], *(alias.get("hostnames") or ()))) for alias in aliases]
    return "\n".join(lines) + "\n"


def resolver(pod: JsonObject, node: NodeNaming) -> Resolver:
    """By the pod's DNS policy, and over it what its dnsConfig says."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        base = Resolver()
    elif policy == "Default" or not node.cluster_dns:
        base = node.own
    else:
        namespace = pod["metadata"]["namespace"]
        inside = (f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN)
        base = Resolver(node.cluster_dns, _unique(*inside, *node.own.searches), _DEFAULT_OPTIONS)
    return _with_config(base, spec.get("dnsConfig") or {})


def files(pod: JsonObject, addresses: Sequence[str], node: NodeNaming) -> dict[str, str]:
    """By their names under /etc. Raises HostnameTooLong."""
    return {
        "hosts": hosts(pod, addresses, node),
        "hostname": hostname(pod, node.name) + "\n",
        "resolv.conf": resolver(pod, node).render(),
    }


def _with_config(base: Resolver, config: JsonObject) -> Resolver:
    options = {text.partition(":")[0]: text for text in base.options}
    for option in config.get("options") or ():
        value = option.get("value")
        options[option["name"]] = option["name"] if value in (None, "") else f"{option['name']}:{value}"
    return Resolver(
        _unique(*base.nameservers, *(config.get("nameservers") or ())),
        _unique(*base.searches, *(config.get("searches") or ())),
        tuple(options.values()),
    )


def _unique(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
