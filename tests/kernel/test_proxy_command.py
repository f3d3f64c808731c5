"""``nodeport proxy`` for real: its flags, ports, events and life, against our API server and the real kernel."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from pathlib import Path

import pytest
import yaml

from kernel import scenario
from kernel.proxycommand import NODE
from kernel.proxysite import (
    HEALTH_PORT,
    READY,
    Site,
    a_load_balancer,
    a_service,
    another_service,
    port_of,
    site,
    site_of,
)
from kernel.topology import NODES, Topology, ask
from nodeport.api.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
)  # fmt: skip
from nodeport.api.resources import NODES as NODE_RESOURCE
from nodeport.netlink.namespace import open_in
from nodeport.store.memory import MemoryStore
from nodeport.testing.controlplane import eventually

__all__ = ["site"]
ROOT = Path(__file__).resolve().parents[2]
KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
IN_CLUSTER = """
set -e
mount --make-rprivate /
mkdir -p "$WORK/run"
mount --rbind /run "$WORK/run"
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/secrets/kubernetes.io/serviceaccount
mount --rbind "$WORK/run/netns" /run/netns
mount --bind "$WORK/account" /run/secrets/kubernetes.io/serviceaccount
exec "$@"
"""
"""A pod's view: the ServiceAccount's files where the kubelet mounts them, in a mount namespace of its own."""


async def test_every_endpoint_answers_as_kube_proxys(site: Site) -> None:
    proxy = site.with_kubeconfig("--nodeport-addresses=primary", "--cluster-cidr=10.244.0.0/16", "--v=4")
    async with proxy.running():
        healthz, livez = proxy.ask(10256, "/healthz"), proxy.ask(10256, "/livez")
        assert (healthz.status, livez.status) == (200, 200)
        assert list(healthz.json) == ["lastUpdated", "currentTime", "nodeEligible", "healthy", "status"]
        assert list(livez.json) == ["lastUpdated", "currentTime", "healthy", "status"]
        assert healthz.json["nodeEligible"] is True
        assert healthz.headers["X-Content-Type-Options"] == "nosniff"
        assert healthz.headers["Content-Type"] == "application/json"
        assert proxy.ask(10249, "/proxyMode").body == b"nftables"
        assert proxy.ask(10249, "/metrics/slis").body == b""
        assert proxy.ask(10249, "/healthz").body == b"ok"
        levels = proxy.ask(10249, "/metrics/slis").body.decode()
        assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1\n' in levels
        assert levels.endswith(
            'kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 1\n'
        )
        shown = proxy.ask(10249, "/configz").json["kubeproxy.config.k8s.io"]
        assert (shown["Mode"], shown["NodePortAddresses"]) == ("nftables", ["primary"])
        assert proxy.ask(10249, "/nothing").status == 404
        packed = proxy.ask(10249, "/metrics", Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.body) < len(proxy.ask(10249, "/metrics").body) / 4
        for address in (str(NODES[NODE]), "127.0.0.1"):
            assert proxy.ask(10256, "/healthz", host=address, method="POST").status == 200
        with pytest.raises(OSError, match="refused"):
            proxy.ask(10249, "/metrics", host=str(NODES[NODE]))


async def test_the_log_begins_with_what_runs_where_and_tells_when_the_kernel_has_it(site: Site) -> None:
    proxy = site.with_kubeconfig("--nodeport-addresses=172.31.7.11/24")
    async with proxy.running():
        item = await site.serve(a_service(), {"local": READY})
        assert await eventually(
            lambda: site.is_served(port_of(item))
        )  # host bits in the flag are kube-proxy's habit
    log = proxy.log.read_text()
    assert f"in place of kube-proxy v1.36.1: mode nftables, node {NODE}, API {site.server.url}" in log
    assert re.search(r"the kernel has all \d+ Service ports \(IPv4, IPv6\)", log)


async def test_without_the_right_to_program_the_kernel_it_says_so_and_ends(site: Site) -> None:
    powerless = ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin"]
    kubeconfig = site.server.write_kubeconfig(site.work / "kubeconfig")
    proxy = site.command(f"--kubeconfig={kubeconfig}", wrapper=powerless)
    for words in ((), ("verify",), ("--cleanup",)):
        ended = await asyncio.to_thread(proxy.run, *words)
        assert (ended.returncode, ended.stdout) == (2 if words == ("verify",) else 1, "")
        assert "CAP_NET_ADMIN" in ended.stderr
        assert ended.stderr.count("\n") == 1
    assert (await asyncio.to_thread(proxy.run, "--version")).returncode == 0


async def test_a_node_whose_object_is_deleted_goes_on_serving(site: Site) -> None:
    """It leaves the load balancers, and those who have not heard of it yet are served."""
    proxy = site.with_kubeconfig("--nodeport-addresses=primary", "--detect-local-mode=NodeCIDR")
    async with proxy.running():
        item = await site.serve(a_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(item)))
        before = site.ruleset()
        await site.client.delete(NODE_RESOURCE, NODE)
        await proxy.until(lambda: proxy.ask(10256, "/healthz").status == 503, "load balancers are sent away")
        other = await site.serve(another_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(other)))
        assert await site.is_served(port_of(item))
        await site.client.delete(SERVICES, other["metadata"]["name"], scenario.NAMESPACE)
        await proxy.until(lambda: site.ruleset() == before, "nothing else has changed")


async def test_rules_outlive_the_proxy_and_the_next_one_changes_nothing(site: Site) -> None:
    proxy = site.with_kubeconfig()
    async with proxy.running():
        item = await site.serve(a_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(item)))
        kept = site.ruleset()
        assert proxy.stop() == 0
    assert site.ruleset() == kept
    assert await site.is_served(port_of(item))
    proxy.start()
    await proxy.until_healthy()
    assert site.ruleset() == kept
    proxy.stop(signal.SIGKILL)
    assert await site.is_served(port_of(item))
    async with proxy.running():
        assert site.ruleset() == kept


async def test_two_proxies_of_one_node_do_not_fight(site: Site) -> None:
    """The second changes nothing while the first is there, says whom it waits for, and takes over when that ends."""
    first = site.with_kubeconfig()
    second = site.with_kubeconfig("--cluster-cidr=10.244.0.0/16")
    second.log = site.work / "second.log"
    async with first.running():
        item = await site.serve(a_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(item)))
        before = site.ruleset()
        assert first.process is not None
        waits = (
            f"another proxy programs this network namespace: pid {first.process.pid}, mode nftables, node n1"
        )
        second.start()
        try:
            await second.until(lambda: waits in second.log.read_text(), "it waits")
            assert site.ruleset() == before
            cleaned = await asyncio.to_thread(second.run, "--cleanup")
            assert (
                f"a proxy is at work here, which puts its rules back: pid {first.process.pid}"
                in cleaned.stderr
            )
            await eventually(lambda: site.is_served(port_of(item)))
            before = site.ruleset()
            first.stop(signal.SIGKILL)
            await second.until_healthy()
            assert site.ruleset() != before
            assert await site.is_served(port_of(item))
        finally:
            second.stop()


async def test_verify_finds_what_is_missing_and_cleanup_leaves_nothing(site: Site) -> None:
    proxy = site.with_kubeconfig()
    async with proxy.running():
        item = await site.serve(a_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(item)))
    good = await asyncio.to_thread(proxy.run, "verify")
    assert (good.returncode, good.stdout) == (0, "the kernel is what the cluster wants\n"), good.stderr
    site.made.nft(NODE, "flush", "map", "ip", "nodeport", "nodeports")
    bad = await asyncio.to_thread(proxy.run, "verify")
    assert bad.returncode == 1
    assert "IPv4: " in bad.stdout, bad.stderr
    await site.client.delete(NODE_RESOURCE, NODE)
    unknown = await asyncio.to_thread(proxy.run, "verify")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.endswith("--hostname-override names another\n")
    assert 'error: nodes "n1" not found: what the kernel should have depends on' in unknown.stderr
    assert "nodeport" in site.ruleset()
    cleaned = await asyncio.to_thread(proxy.run, "--cleanup")
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert site.ruleset() == ""


async def test_verify_says_at_once_that_nobody_tells_it_what_to_compare_with(site: Site) -> None:
    unreachable = await asyncio.to_thread(site.command("--master=http://127.0.0.1:1").run, "verify")
    assert (unreachable.returncode, unreachable.stdout) == (2, "")
    assert re.fullmatch(
        r"error: cannot learn what the cluster wants: GET /api/v1/nodes: .*\n", unreachable.stderr
    )
    nobody = site.command(f"--master={site.server.url}", f"--kubeconfig={kubeconfig_of_nobody(site)}")
    refused = await asyncio.to_thread(nobody.run, "verify")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.fullmatch(r"error: cannot learn what the cluster wants: .*\n", refused.stderr)


def kubeconfig_of_nobody(site: Site) -> Path:
    """Trusts the server, and proves nothing about itself."""
    path = site.server.write_kubeconfig(site.work / "kubeconfig-of-nobody")
    shown = yaml.safe_load(path.read_text())
    for user in shown["users"]:
        user["user"] = {}
    path.write_text(yaml.safe_dump(shown))
    return path


async def test_events_tell_the_start_and_a_port_in_use(site: Site) -> None:
    taken = open_in(site.made.namespace(NODE), lambda: socket.create_server((str(NODES[NODE]), HEALTH_PORT)))
    proxy = site.with_kubeconfig()
    with taken:
        async with proxy.running():
            item = await site.serve(a_load_balancer(), {"local": READY})
            (event,) = await eventually(lambda: site.events("FailedToStartServiceHealthcheck"), deadline=20)
            assert (event["type"], event["action"]) == ("Warning", "Listen")
            assert event["involvedObject"]["uid"] == item["metadata"]["uid"]
            assert re.search(
                rf"failed to start healthcheck .* on port {HEALTH_PORT}: .*in use", event["message"]
            )
            (started,) = await site.events("Starting")
            assert (started["involvedObject"]["kind"], started["involvedObject"]["uid"]) == ("Node", NODE)
            assert (started["source"]["component"], started["action"]) == ("kube-proxy", "StartKubeProxy")


async def test_hard_fail_ends_the_proxy_with_an_event(site: Site) -> None:
    taken = open_in(site.made.namespace(NODE), lambda: socket.create_server(("127.0.0.1", 10256)))
    proxy = site.with_kubeconfig("--bind-address-hard-fail", "--healthz-bind-address=127.0.0.1:10256")
    with taken:
        proxy.start()
        await proxy.until(lambda: proxy.ended() is not None, "it gives up")
    assert proxy.ended() == 1
    assert "error: " in proxy.log.read_text()
    assert await site.events("FailedToStartProxierHealthcheck")


async def test_service_networks_come_from_the_cluster(site: Site) -> None:
    """An address of no Service within the ServiceCIDR is refused at once, without a flag that says what that is."""
    proxy = site.with_kubeconfig()
    async with proxy.running():
        await proxy.until(lambda: "10.96.0.0/16" in site.ruleset(), "the range is in the rules")


async def test_nodeports_answer_on_loopback_when_asked_for(site: Site) -> None:
    proxy = site.with_kubeconfig("--localhost-nodeports")
    async with proxy.running():
        port = port_of(await site.serve(a_service(), {"local": READY}))

        async def answers_on_loopback() -> bool:
            node, loopback = site.made.namespace(NODE), scenario.LOOPBACK[4]
            told = [await asyncio.to_thread(ask, node, kind, loopback, port) for kind in KINDS]
            return told == [f"local {NODES[NODE]}"] * len(KINDS)

        await eventually(answers_on_loopback)


async def test_a_changed_kubeconfig_leads_to_the_new_server(made: Topology, tmp_path: Path) -> None:
    """The old server is gone, and with it its authority: only the file says where to go on."""
    store = MemoryStore()
    async with site_of(made, tmp_path, store) as first:
        proxy = first.with_kubeconfig()
        proxy.start()
        await proxy.until_healthy()
    try:
        async with site_of(made, tmp_path, store, fresh=False) as second:
            second.with_kubeconfig()  # writes the file
            item = await second.serve(a_service(), {"local": READY})
            await eventually(lambda: second.is_served(port_of(item)), deadline=30)
    finally:
        proxy.stop()
        made.nft(NODE, "flush", "ruleset")


async def test_in_a_pod_the_mounted_account_is_enough(site: Site) -> None:
    """With the manifest's own rights, and nothing but the environment and the mount."""
    manifest = list(yaml.safe_load_all((ROOT / "deploy" / "nodeport-proxy.yaml").read_text()))
    for resource in (SERVICE_ACCOUNTS, CLUSTER_ROLE_BINDINGS):
        (item,) = (found for found in manifest if found["kind"] == resource.kind)
        await site.client.create(resource, item)
    account = site.work / "account"
    account.mkdir()
    asked = ("nodeport-proxy", "kube-system", "token", {"spec": {}})
    granted = await site.client.create_subresource(SERVICE_ACCOUNTS, *asked)
    (account / "token").write_text(granted["status"]["token"])
    (account / "ca.crt").write_bytes(site.server.ca_pem)
    (account / "namespace").write_text("kube-system")
    host, _, port = site.server.url.removeprefix("https://").rpartition(":")
    proxy = site.command(
        wrapper=["unshare", "-m", "sh", "-c", IN_CLUSTER, "sh"],
        environment={
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "WORK": str(site.work),
        },
    )
    async with proxy.running():
        item = await site.serve(a_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(item)))
        assert await eventually(lambda: site.events("Starting"))
    assert "orbidden" not in proxy.log.read_text()


async def test_whoever_may_not_read_service_cidrs_is_served_all_the_same(site: Site) -> None:
    """As with the role that kube-proxy had before there were any."""
    account = {"name": "old", "namespace": "kube-system"}
    subject = {"kind": "ServiceAccount", **account}
    rule = {"verbs": ["*"], "apiGroups": ["", "discovery.k8s.io"], "resources": ["*"]}
    await site.client.create(SERVICE_ACCOUNTS, {"metadata": account})
    await site.client.create(CLUSTER_ROLES, {"metadata": {"name": "old"}, "rules": [rule]})
    role = {"roleRef": {"kind": "ClusterRole", "name": "old"}, "subjects": [subject]}
    await site.client.create(CLUSTER_ROLE_BINDINGS, {"metadata": {"name": "old"}, **role})
    asked = site.client.create_subresource(SERVICE_ACCOUNTS, *account.values(), "token", {"spec": {}})
    path = site.server.write_kubeconfig(site.work / "kubeconfig")
    config = yaml.safe_load(path.read_text())
    config["users"][0]["user"] = {"token": (await asked)["status"]["token"]}
    path.write_text(yaml.safe_dump(config))
    proxy = site.command(f"--kubeconfig={path}")
    async with proxy.running():
        item = await site.serve(a_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(item)))
    assert proxy.log.read_text().count("going on without ServiceCIDRs") == 1


async def test_a_file_that_changes_ends_the_proxy_so_that_it_starts_with_the_new_one(site: Site) -> None:
    config = site.work / "config.yaml"
    kubeconfig = site.server.write_kubeconfig(site.work / "kubeconfig")
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "colour": "blue",
        "clientConnection": {"kubeconfig": str(kubeconfig)}, "nodePortAddresses": ["172.31.0.0/16"],
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }  # fmt: skip
    config.write_text(json.dumps(document))
    proxy = site.command(f"--config={config}")
    proxy.start()
    await proxy.until_healthy()
    assert 'unknown field "colour"' in proxy.log.read_text()
    config.write_text(json.dumps({**document, "mode": "nftables"}))
    await proxy.until(lambda: proxy.ended() is not None, "it ends")
    assert proxy.ended() == 1
    assert "configuration file was updated" in proxy.log.read_text()
