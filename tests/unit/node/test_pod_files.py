"""What a pod is called, and what it reads about names."""

from __future__ import annotations

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node import podfiles
from nodeport.node.podfiles import HostnameTooLong, NodeNaming, Resolver, parse_resolver

NODE = NodeNaming("node-1", ("10.96.0.10",), Resolver(("1.1.1.1",), ("example.org",)), "10.0.0.1 machine\n")


def pod(name: str = "web", **spec: object) -> JsonObject:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "web"),
        ({"hostname": "front"}, "front"),
        ({"hostname": "front", "subdomain": "sub"}, "front"),
        ({"subdomain": "sub", "setHostnameAsFQDN": True}, "web.sub.d.svc.cluster.local"),
        ({"setHostnameAsFQDN": True}, "web"),
        ({"hostNetwork": True}, "node-1"),
        ({"hostnameOverride": "any.thing", "subdomain": "sub"}, "any.thing"),
    ],
)
def test_a_pod_is_called_what_it_says(spec: JsonObject, expected: str) -> None:
    assert podfiles.hostname(pod(**spec), "node-1") == expected


def test_a_long_name_is_cut_and_a_long_whole_name_refused() -> None:
    assert podfiles.hostname(pod("a" * 62 + "-b"), "node-1") == "a" * 62
    with pytest.raises(HostnameTooLong, match=r"64 characters is the max, 82 characters requested"):
        podfiles.hostname(pod("a" * 60, subdomain="s", setHostnameAsFQDN=True), "node-1")


def test_the_hosts_file_has_the_pod_and_its_aliases() -> None:
    aliases = [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}, {"ip": "::5", "hostnames": ["c"]}]
    lines = podfiles.hosts(pod(subdomain="sub", hostAliases=aliases), ["10.244.1.2"], NODE).splitlines()
    assert lines[0] == "# Kubernetes-managed hosts file."
    assert "10.244.1.2\tweb.sub.d.svc.cluster.local\tweb" in lines
    assert lines[-3:] == ["# Entries added by HostAliases.", "1.2.3.4\ta\tb", "::5\tc"]


def test_on_the_nodes_network_the_hosts_file_is_the_nodes() -> None:
    lines = podfiles.hosts(pod(hostNetwork=True), ["10.0.0.1"], NODE).splitlines()
    assert lines == ["# Kubernetes-managed hosts file (host network).", "10.0.0.1 machine"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {},
            "search d.svc.cluster.local svc.cluster.local cluster.local example.org\n"
            "nameserver 10.96.0.10\noptions ndots:5\n",
        ),
        ({"dnsPolicy": "Default"}, "search example.org\nnameserver 1.1.1.1\n"),
        ({"hostNetwork": True}, "search example.org\nnameserver 1.1.1.1\n"),
        (
            {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True, "dnsConfig": {"nameservers": ["9.9.9.9"]}},
            "search d.svc.cluster.local svc.cluster.local cluster.local example.org\n"
            "nameserver 10.96.0.10\nnameserver 9.9.9.9\noptions ndots:5\n",
        ),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["9.9.9.9"], "searches": ["x.y"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
                },
            },
            "search x.y\nnameserver 9.9.9.9\noptions ndots:2 edns0\n",
        ),
    ],
)  # fmt: skip
def test_names_are_resolved_by_the_pods_policy(spec: JsonObject, expected: str) -> None:
    assert podfiles.resolver(pod(**spec), NODE).render() == expected


def test_what_the_pod_says_goes_before_the_policys_options() -> None:
    config = {"options": [{"name": "ndots", "value": "1"}]}
    assert podfiles.resolver(pod(dnsConfig=config), NODE).options == ("ndots:1",)


def test_without_name_servers_of_the_cluster_the_nodes_are_used() -> None:
    node = NodeNaming("node-1", (), Resolver(("1.1.1.1",)))
    assert podfiles.resolver(pod(), node) == Resolver(("1.1.1.1",))


def test_a_resolv_conf_is_read_as_resolvers_read_it() -> None:
    text = "# c\nnameserver 1.1.1.1 # x\nsearch a b\nsearch c\noptions ndots:2 rotate\n; d\nnameserver ::1\n"
    assert parse_resolver(text) == Resolver(("1.1.1.1", "::1"), ("c",), ("ndots:2", "rotate"))
