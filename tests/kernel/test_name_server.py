"""A node's name server on real sockets, in a network namespace of its own, with a server of the machine's behind it."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest

from nodeport.api.clusterdns import NODE_PORT
from nodeport.kit.clock import SystemClock
from nodeport.netlink.namespace import open_in
from nodeport.node import namespaces
from nodeport.node.dns.forwarder import Forwarder
from nodeport.node.dns.server import NameServer, Resolver
from nodeport.node.namespaces import NamespaceFile
from nodeport.testing.controlplane import eventually
from unit.node.dns.clusternames import Cluster, endpoint, endpoint_slice, lines, service

ADDRESS, POD, STRANGER = "127.0.0.7", "127.0.0.8", "127.1.0.1"
AT = "default.svc.cluster.local"
RECORDS = {
    "www.example.org.": ("CNAME", "host.example.org."),
    "host.example.org.": ("A", "192.0.2.1"),
    "9.113.0.203.in-addr.arpa.": ("PTR", "host.example.org."),
}
OBJECTS = (
    service("web", clusterIPs=["10.96.1.1"]),
    service("far", type="ExternalName", externalName="www.example.org"),
    service("gone", type="ExternalName", externalName="gone.example.org"),
    service("large", type="ExternalName", externalName="large.example.org"),
    service("many", clusterIPs=["None"]),
    endpoint_slice("many", *(endpoint(f"10.244.1.{number}") for number in range(1, 201))),
)


@pytest.fixture
def netns() -> Iterator[Path]:
    made = namespaces.NETNS_ROOT / f"np.names-{secrets.token_hex(4)}"
    namespaces.prepare_netns_root()
    namespaces.create([NamespaceFile("net", made)], lambda: None)
    subprocess.run(["nsenter", f"--net={made}", "ip", "link", "set", "lo", "up"], check=True)
    yield made
    namespaces.remove(made)


class MachinesServer(asyncio.DatagramProtocol):
    """What the machine's own resolv.conf names, on a port of its own; over UDP it cuts ``large.example.org``."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(self.answer(data, over_tcp=False), addr)  # type: ignore[attr-defined]

    def answer(self, data: bytes, *, over_tcp: bool) -> bytes:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        name = query.question[0].name.to_text()
        self.asked.append(name)
        if name == "large.example.org.":
            if over_tcp:
                answer.answer = [dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7")]
            else:
                answer.flags |= dns.flags.TC
            return answer.to_wire()
        if name not in RECORDS:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        while name in RECORDS:
            kind, value = RECORDS[name]
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, value))
            name = value if kind == "CNAME" else ""
        return answer.to_wire()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        found = self.answer(await reader.readexactly(length), over_tcp=True)
        writer.write(struct.pack("!H", len(found)) + found)
        await writer.drain()
        writer.close()


class Synced:
    async def wait_until_synced(self) -> None: ...


class Site:
    """Asks as somebody in the namespace."""

    def __init__(self, netns: Path, machine: MachinesServer, cluster: Cluster) -> None:
        self.netns, self.machine, self.cluster = netns, machine, cluster

    async def ask(
        self, name: str, kind: str = "A", *, over_tcp: bool = False, source: str = POD
    ) -> dns.message.Message:
        query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
        return await asyncio.to_thread(self._ask, query, source, over_tcp=over_tcp)

    def _ask(self, query: dns.message.Message, source: str, *, over_tcp: bool) -> dns.message.Message:
        kind = socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM
        with open_in(self.netns, lambda: socket.socket(socket.AF_INET, kind)) as sock:
            sock.bind((source, 0))
            if over_tcp:
                sock.connect((ADDRESS, NODE_PORT))
            sock.setblocking(False)
            if over_tcp:
                return dns.query.tcp(query, ADDRESS, 10, NODE_PORT, sock=sock)
            return dns.query.udp(query, ADDRESS, 10, NODE_PORT, sock=sock)

    def is_open(self) -> bool:
        with open_in(self.netns, socket.socket) as sock:
            return sock.connect_ex((ADDRESS, NODE_PORT)) == 0


@asynccontextmanager
async def site(netns: Path, resolv_conf: Path) -> AsyncIterator[Site]:
    loop = asyncio.get_running_loop()
    machine = MachinesServer()
    streams = await asyncio.start_server(machine.converse, "127.0.0.1", 0)
    port = streams.sockets[0].getsockname()[1]
    datagrams, _ = await loop.create_datagram_endpoint(lambda: machine, local_addr=("127.0.0.1", port))
    cluster = Cluster(*OBJECTS)
    cluster.zone.set_places([ip_network("127.0.0.0/24")])
    resolver = Resolver(cluster.zone, Forwarder(("10.96.0.10",), resolv_conf, port))
    server = NameServer(resolver, [Synced()], [IPv4Address(ADDRESS)], netns, SystemClock())  # type: ignore[list-item]
    serving = asyncio.create_task(server.run())
    found = Site(netns, machine, cluster)
    try:
        await eventually(found.is_open)
        yield found
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        datagrams.close()
        streams.close()
    assert not found.is_open()


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    made = tmp_path / "resolv.conf"
    made.write_text("nameserver 10.96.0.10\nnameserver not-an-address\nnameserver 127.0.0.1\n")
    return made


@pytest.mark.parametrize("over_tcp", [False, True], ids=["udp", "tcp"])
async def test_pods_get_answers_and_strangers_are_refused(
    netns: Path, resolv_conf: Path, over_tcp: bool
) -> None:
    async with site(netns, resolv_conf) as it:
        answer = await it.ask(f"web.{AT}", over_tcp=over_tcp)
        assert lines(answer.answer) == [f"web.{AT} A 10.96.1.1"]
        for name in (f"web.{AT}", "host.example.org"):
            if over_tcp:
                with pytest.raises((EOFError, ConnectionError)):
                    await it.ask(name, over_tcp=True, source=STRANGER)
            else:
                refused = await it.ask(name, source=STRANGER)
                assert (refused.rcode(), refused.answer) == (dns.rcode.REFUSED, [])
        assert it.machine.asked == []


async def test_what_is_cut_over_udp_is_whole_over_tcp(netns: Path, resolv_conf: Path) -> None:
    async with site(netns, resolv_conf) as it:
        cut = await it.ask(f"many.{AT}")
        assert cut.flags & dns.flags.TC
        whole = await it.ask(f"many.{AT}", over_tcp=True)
        assert (len(whole.answer[0]), whole.flags & dns.flags.TC) == (200, 0)


@pytest.mark.parametrize("over_tcp", [False, True], ids=["udp", "tcp"])
async def test_what_the_cluster_does_not_know_the_machines_server_is_asked(
    netns: Path, resolv_conf: Path, over_tcp: bool
) -> None:
    async with site(netns, resolv_conf) as it:
        found = await it.ask("www.example.org", over_tcp=over_tcp)
        assert lines(found.answer) == [
            "www.example.org CNAME host.example.org.",
            "host.example.org A 192.0.2.1",
        ]
        assert not found.flags & dns.flags.AA
        assert (await it.ask("no.example.org", over_tcp=over_tcp)).rcode() == dns.rcode.NXDOMAIN
        reverse = await it.ask("9.113.0.203.in-addr.arpa", "PTR", over_tcp=over_tcp)
        assert lines(reverse.answer) == ["9.113.0.203.in-addr.arpa PTR host.example.org."]


async def test_an_external_name_comes_with_the_addresses_it_leads_to(netns: Path, resolv_conf: Path) -> None:
    async with site(netns, resolv_conf) as it:
        assert lines((await it.ask(f"far.{AT}")).answer) == [
            f"far.{AT} CNAME www.example.org.",
            "www.example.org CNAME host.example.org.",
            "host.example.org A 192.0.2.1",
        ]
        assert lines((await it.ask(f"large.{AT}")).answer) == [
            f"large.{AT} CNAME large.example.org.",
            "large.example.org A 192.0.2.7",
        ]
        gone = await it.ask(f"gone.{AT}")
        assert (gone.rcode(), lines(gone.answer)) == (
            dns.rcode.NXDOMAIN,
            [f"gone.{AT} CNAME gone.example.org."],
        )


async def test_without_a_server_of_the_machines_the_cluster_is_known_all_the_same(
    netns: Path, resolv_conf: Path
) -> None:
    resolv_conf.write_text("")
    async with site(netns, resolv_conf) as it:
        assert (await it.ask("host.example.org")).rcode() == dns.rcode.SERVFAIL
        alias = await it.ask(f"far.{AT}")
        assert (alias.rcode(), lines(alias.answer)) == (
            dns.rcode.NOERROR,
            [f"far.{AT} CNAME www.example.org."],
        )
        assert (await it.ask(f"web.{AT}")).answer
        resolv_conf.write_text("nameserver 127.0.0.1\n")
        assert (await it.ask("host.example.org")).answer


async def test_the_next_answer_knows_a_change(netns: Path, resolv_conf: Path) -> None:
    async with site(netns, resolv_conf) as it:
        for number in range(1, 20):
            it.cluster.put(service("web", clusterIPs=[f"10.96.2.{number}"]))
            assert lines((await it.ask(f"web.{AT}")).answer) == [f"web.{AT} A 10.96.2.{number}"]


async def test_a_client_that_stops_in_the_middle_keeps_nobody_else_waiting(
    netns: Path, resolv_conf: Path
) -> None:
    async with site(netns, resolv_conf) as it:
        with open_in(netns, socket.socket) as silent:
            silent.bind((POD, 0))
            silent.connect((ADDRESS, NODE_PORT))
            silent.sendall(b"\0\x40half")
            assert (await it.ask(f"web.{AT}", over_tcp=True)).answer
