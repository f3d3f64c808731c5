"""Every kind of record of the DNS specification, out of Services and slices, as another codec reads it."""

from __future__ import annotations

import dns.flags
import dns.rcode
import pytest

from nodeport.node.dns import message
from nodeport.node.dns.message import Query
from nodeport.node.dns.zone import Elsewhere
from unit.node.dns.clusternames import Cluster, endpoint, endpoint_slice, lines, service

HTTP = {"name": "http", "protocol": "TCP", "port": 80}
DNS_TCP = {"name": "dns", "protocol": "UDP", "port": 53}
WEB = service(
    "web", clusterIPs=["10.96.1.1", "fd00:96::1"], ports=[HTTP, DNS_TCP, {"port": 81, "protocol": "TCP"}]
)
DB = service("db", clusterIPs=["None"], clusterIP="None", ports=[HTTP])
DB_SLICE = endpoint_slice(
    "db",
    endpoint("10.244.1.5", "db-0"),
    endpoint("10.244.1.4", ready=True),
    endpoint("10.244.1.6", "db-2", ready=False),
    ports=[{"name": "http", "port": 8080}],
)
DB_SLICE_6 = endpoint_slice("db", endpoint("fd00::5", "db-0"), family="IPv6")
FAR = service("far", type="ExternalName", externalName="www.Example.org.")
CHAIN = service("chain", type="ExternalName", externalName="web.default.svc.cluster.local")
KUBE_DNS = service("kube-dns", "kube-system", clusterIPs=["10.96.0.10"])
ALL = (WEB, DB, DB_SLICE, DB_SLICE_6, FAR, CHAIN, KUBE_DNS)
AT = "default.svc.cluster.local"


@pytest.mark.parametrize(
    ("name", "kind", "records"),
    [
        (f"web.{AT}", "A", [f"web.{AT} A 10.96.1.1"]),
        (f"web.{AT}", "AAAA", [f"web.{AT} AAAA fd00:96::1"]),
        (f"wEb.{AT.upper()}", "A", [f"web.{AT} A 10.96.1.1"]),
        (f"_http._tcp.web.{AT}", "SRV", [f"_http._tcp.web.{AT} SRV 0 100 80 web.{AT}."]),
        (f"_dns._udp.web.{AT}", "SRV", [f"_dns._udp.web.{AT} SRV 0 100 53 web.{AT}."]),
        (f"db.{AT}", "A", [f"db.{AT} A 10.244.1.4", f"db.{AT} A 10.244.1.5"]),
        (f"db.{AT}", "AAAA", [f"db.{AT} AAAA fd00::5"]),
        (f"db-0.db.{AT}", "A", [f"db-0.db.{AT} A 10.244.1.5"]),
        (f"db-0.db.{AT}", "AAAA", [f"db-0.db.{AT} AAAA fd00::5"]),
        (f"10-244-1-4.db.{AT}", "A", [f"10-244-1-4.db.{AT} A 10.244.1.4"]),
        (
            f"_http._tcp.db.{AT}",
            "SRV",
            [
                f"_http._tcp.db.{AT} SRV 0 100 8080 10-244-1-4.db.{AT}.",
                f"_http._tcp.db.{AT} SRV 0 100 8080 db-0.db.{AT}.",
            ],
        ),
        ("1.1.96.10.in-addr.arpa", "PTR", [f"1.1.96.10.in-addr.arpa PTR web.{AT}."]),
        ("5.1.244.10.in-addr.arpa", "PTR", [f"5.1.244.10.in-addr.arpa PTR db-0.db.{AT}."]),
        (f"chain.{AT}", "A", [f"chain.{AT} CNAME web.{AT}.", f"web.{AT} A 10.96.1.1"]),
        (f"far.{AT}", "CNAME", [f"far.{AT} CNAME www.example.org."]),
        ("10-244-1-9.default.pod.cluster.local", "A", ["10-244-1-9.default.pod.cluster.local A 10.244.1.9"]),
        ("fd00--9.default.pod.cluster.local", "AAAA", ["fd00--9.default.pod.cluster.local AAAA fd00::9"]),
        ("dns-version.cluster.local", "TXT", ['dns-version.cluster.local TXT "1.1.0"']),
        ("cluster.local", "NS", ["cluster.local NS kube-dns.kube-system.svc.cluster.local."]),
    ],
)
def test_a_name_has_the_records_of_the_specification(name: str, kind: str, records: list[str]) -> None:
    assert [line.lower() for line in Cluster(*ALL).said(name, kind)] == [line.lower() for line in records]


@pytest.mark.parametrize(
    "name",
    [
        f"nothing.{AT}",
        f"db-2.db.{AT}",
        f"_https._tcp.web.{AT}",
        f"10-96-1-1.web.{AT}",
        "web.elsewhere.svc.cluster.local",
        "elsewhere.svc.cluster.local",
        "web.default.cluster.local",
        "203-0-113-9.default.pod.cluster.local",
        "a-b.default.pod.cluster.local",
        "9.1.96.10.in-addr.arpa",
        "9.1.244.10.in-addr.arpa",
    ],
)
def test_a_name_that_is_not_there_is_denied_for_five_seconds(name: str) -> None:
    answer = Cluster(*ALL).ask(name, "PTR" if name.endswith("arpa") else "A")
    assert (answer.rcode(), answer.answer) == (dns.rcode.NXDOMAIN, [])
    (soa,) = answer.authority
    assert (soa.ttl, soa[0].minimum) == (5, 5)
    assert name.endswith(soa.name.to_text(omit_final_dot=True))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"web.{AT}", "MX"),
        (f"db-0.db.{AT}", "SRV"),
        (f"_tcp.web.{AT}", "A"),
        (AT, "A"),
        ("svc.cluster.local", "A"),
        ("cluster.local", "A"),
        ("10-244-1-9.default.pod.cluster.local", "AAAA"),
        ("1.1.96.10.in-addr.arpa", "A"),
    ],
)
def test_a_name_without_records_of_that_kind_is_no_error(name: str, kind: str) -> None:
    answer = Cluster(*ALL).ask(name, kind)
    assert (answer.rcode(), answer.answer, len(answer.authority)) == (dns.rcode.NOERROR, [], 1)


def test_srv_records_bring_the_addresses_along() -> None:
    cluster = Cluster(*ALL)
    assert lines(cluster.ask(f"_http._tcp.db.{AT}", "SRV").additional) == [
        f"10-244-1-4.db.{AT} A 10.244.1.4",
        f"db-0.db.{AT} A 10.244.1.5",
        f"db-0.db.{AT} AAAA fd00::5",
    ]


def test_answers_are_authoritative_for_five_seconds() -> None:
    answer = Cluster(*ALL).ask(f"web.{AT}")
    assert {found.ttl for found in answer.answer} == {5}
    assert answer.flags & dns.flags.AA
    assert answer.flags & dns.flags.RA


def test_each_question_gets_another_address_first() -> None:
    cluster = Cluster(*ALL)
    first = {cluster.ask(f"db.{AT}", number=number).answer[0][0].to_text() for number in range(2)}
    assert first == {"10.244.1.4", "10.244.1.5"}


def test_a_service_that_publishes_them_has_endpoints_that_are_not_ready() -> None:
    cluster = Cluster(DB | {"spec": {**DB["spec"], "publishNotReadyAddresses": True}}, DB_SLICE)
    assert cluster.said(f"db-2.db.{AT}") == [f"db-2.db.{AT} A 10.244.1.6"]
    assert len(cluster.said(f"db.{AT}")) == 3


def test_an_endpoint_with_a_host_name_has_it_behind_a_cluster_ip_too() -> None:
    cluster = Cluster(WEB, endpoint_slice("web", endpoint("10.244.1.7", "web-0"), endpoint("10.244.1.8")))
    assert cluster.said(f"web-0.web.{AT}") == [f"web-0.web.{AT} A 10.244.1.7"]
    assert cluster.said("7.1.244.10.in-addr.arpa", "PTR") == [f"7.1.244.10.in-addr.arpa PTR web-0.web.{AT}."]
    assert cluster.ask(f"10-244-1-8.web.{AT}").rcode() == dns.rcode.NXDOMAIN


def test_every_change_is_in_the_next_answer() -> None:
    cluster = Cluster(WEB, DB, DB_SLICE)
    assert cluster.said("1.1.96.10.in-addr.arpa", "PTR")
    cluster.put(WEB | {"spec": {**WEB["spec"], "clusterIPs": ["10.96.1.2"]}})
    assert cluster.said(f"web.{AT}") == [f"web.{AT} A 10.96.1.2"]
    assert cluster.ask("1.1.96.10.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN
    cluster.put(endpoint_slice("db", endpoint("10.244.1.9", "db-0")))
    assert cluster.said(f"db.{AT}") == [f"db.{AT} A 10.244.1.9"]
    cluster.remove("web")
    assert cluster.ask(f"web.{AT}").rcode() == dns.rcode.NXDOMAIN
    assert cluster.ask("2.1.96.10.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN


def test_aliases_in_a_circle_end_as_a_failure() -> None:
    circle = service("round", type="ExternalName", externalName=f"round.{AT}")
    assert Cluster(circle).ask(f"round.{AT}").rcode() == dns.rcode.SERVFAIL


def test_an_alias_that_fits_in_no_message_is_a_failure() -> None:
    long = service("long", type="ExternalName", externalName="a" * 64 + ".example.org")
    assert Cluster(long).ask(f"long.{AT}").rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    "name", ["example.org", "9.113.0.203.in-addr.arpa", "in-addr.arpa", "xcluster.local"]
)
def test_what_is_not_the_clusters_is_asked_elsewhere(name: str) -> None:
    query = Query(1, 0, name, 1, 1, b"")
    assert Cluster(*ALL).zone.answer(query) == Elsewhere(name)


def test_an_external_name_is_asked_elsewhere_with_the_alias_told() -> None:
    found = Cluster(*ALL).zone.answer(Query(1, 0, f"far.{AT}", 1, 1, b""))
    assert isinstance(found, Elsewhere)
    assert (found.name, [each.data for each in found.so_far]) == ("www.example.org", ["www.example.org"])


@pytest.mark.parametrize(("kind", "klass"), [(252, 1), (251, 1), (1, 3)])
def test_transfers_and_other_classes_are_refused(kind: int, klass: int) -> None:
    found = Cluster(*ALL).zone.answer(Query(1, 0, "cluster.local", kind, klass, b""))
    assert isinstance(found, message.Answer)
    assert found.code == message.Code.REFUSED


def test_addresses_that_mean_nothing_are_left_out() -> None:
    cluster = Cluster(DB, endpoint_slice("db", endpoint("010.244.1.1"), endpoint("10.244.1.2")))
    assert cluster.said(f"db.{AT}") == [f"db.{AT} A 10.244.1.2"]


def test_services_that_come_and_go_leave_nothing_behind() -> None:
    cluster = Cluster()
    for number in range(50):
        cluster.put(service(f"s{number}", clusterIPs=["10.96.3.1"]))
        assert cluster.said(f"s{number}.{AT}")
        cluster.remove(f"s{number}")
        assert cluster.ask(f"s{number}.{AT}").rcode() == dns.rcode.NXDOMAIN
    assert not cluster.zone._names
