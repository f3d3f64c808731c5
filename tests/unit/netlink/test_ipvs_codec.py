"""Messages of IPVS: the bytes that ipvsadm sends, the bytes that a kernel lists, and fuzz."""

from __future__ import annotations

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.netlink import codec
from nodeport.netlink.codec import MalformedMessage
from nodeport.netlink.generic import family_number, family_request
from nodeport.netlink.ipvs import messages
from nodeport.netlink.ipvs.messages import (
    Command,
    Destination,
    DestinationKey,
    ListedDestination,
    ListedService,
    Method,
    ServiceFlag,
    ServiceKey,
    Statistics,
    Timeouts,
    VirtualService,
)

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="golden bytes of a little-endian host")

WEB = ServiceKey(6, bytes((10, 96, 0, 10)), 80)
STICKY = ServiceKey(6, bytes((10, 96, 0, 11)), 80)
DNS = ServiceKey(17, bytes.fromhex("fd000000000000000000000000000001"), 53)
POD = DestinationKey(bytes((10, 244, 1, 2)), 8080)
POD_6 = DestinationKey(bytes.fromhex("fd000001000000000000000000000002"), 5353)

SERVICES: list[tuple[VirtualService, str]] = [
    (
        VirtualService(WEB),
        "010100005400018006000100020000000600020006000000140003000a60000a00000000000000000000000006000400"
        "0050000007000600727200000c00070000000000ffffffff080008000000000008000900ffffffff",
    ),
    (
        VirtualService(STICKY, "wrr", ServiceFlag.PERSISTENT, 10800),
        "010100005400018006000100020000000600020006000000140003000a60000b00000000000000000000000006000400"
        "0050000008000600777272000c00070001000000ffffffff08000800302a000008000900ffffffff",
    ),
    (
        VirtualService(DNS),
        "0101000054000180060001000a000000060002001100000014000300fd00000000000000000000000000000106000400"
        "0035000007000600727200000c00070000000000ffffffff08000800000000000800090080000000",
    ),
]
"""What ``ipvsadm -A`` 1.31 sends."""

DESTINATIONS: list[tuple[ServiceKey, Destination, str]] = [
    (
        WEB,
        Destination(POD),
        "050100005400018006000100020000000600020006000000140003000a60000a00000000000000000000000006000400"
        "0050000005000600000000000c00070000000000ffffffff080008000000000008000900ffffffff6000028006000b00"
        "02000000140001000af40102000000000000000000000000060002001f90000008000300000000000800040001000000"
        "05000d000000000006000e000000000006000f000000000008000500000000000800060000000000",
    ),
    (
        DNS,
        Destination(POD_6, 3),
        "0501000054000180060001000a000000060002001100000014000300fd00000000000000000000000000000106000400"
        "0035000005000600000000000c00070000000000ffffffff08000800000000000800090080000000600002800600"
        "0b000a00000014000100fd0000010000000000000000000000020600020014e900000800030000000000080004000300"
        "000005000d000000000006000e000000000006000f000000000008000500000000000800060000000000",
    ),
]
"""What ``ipvsadm -a`` 1.31 sends: more than we do, since it names the service with all its settings."""

STATISTICS = "".join(f"0c00{kind:02x}00{kind:02x}00000000000000" for kind in range(1, 11))
LISTED_SERVICE = (
    "01010000d000010006000100020000000600020006000000140003000a60000b000000000000000000000000060004000050000008000600"
    "777272000c00070003000000ffffffff08000800302a000008000900ffffffff7c000c00" + STATISTICS
)
LISTED_DESTINATION = (
    "05010000f400020014000100fd0000010000000000000000000000020600020014e900000800030000000000080004000300"
    "000005000d000000000006000e000000000006000f000000000008000500000000000800060000000000080007000500"
    "000008000800060000000800090007000000"
    "06000b000a0000007c000c00" + STATISTICS
)
COUNTED = Statistics(1, 2, 3, 4, 5)


@pytest.mark.parametrize(("service", "golden"), SERVICES, ids=lambda value: str(getattr(value, "key", "")))
def test_a_virtual_service_is_the_bytes_that_ipvsadm_sends(service: VirtualService, golden: str) -> None:
    sent = messages.payload(Command.NEW_SERVICE, messages.service_attribute(service))
    assert sent.hex() == golden
    assert messages.decode_service(bytes.fromhex(golden)) == ListedService(service)


@pytest.mark.parametrize(
    ("key", "destination", "golden"), DESTINATIONS, ids=lambda value: str(getattr(value, "key", ""))
)
def test_a_destination_says_what_ipvsadm_says_of_it(
    key: ServiceKey, destination: Destination, golden: str
) -> None:
    theirs = _nested(bytes.fromhex(golden))
    ours = _nested(
        messages.payload(
            Command.NEW_DEST,
            messages.service_name_attribute(key),
            messages.destination_attribute(destination),
        )
    )
    for kind in (1, 2):
        assert ours[kind].items() <= theirs[kind].items()
    listed = messages.decode_destination(bytes.fromhex(golden), key)
    assert listed == ListedDestination(destination)


def _nested(payload: bytes) -> dict[int, dict[int, bytes]]:
    return {kind: codec.parse(raw) for kind, raw in codec.attributes(payload[4:])}


def test_what_the_kernel_lists_is_read_with_its_counters() -> None:
    service = messages.decode_service(bytes.fromhex(LISTED_SERVICE))
    assert service is not None
    assert service.service == VirtualService(STICKY, "wrr", ServiceFlag.PERSISTENT, 10800)
    listed = messages.decode_destination(bytes.fromhex(LISTED_DESTINATION), DNS)
    assert listed == ListedDestination(Destination(POD_6, 3), 5, 6, 7, listed.counters)
    assert service.statistics == listed.statistics == COUNTED


def test_a_deletion_names_and_says_nothing_else() -> None:
    gone = messages.payload(
        Command.DEL_DEST, messages.service_name_attribute(WEB), messages.destination_name_attribute(POD)
    )
    assert gone.hex() == (
        "07010000300001800600010002000000060002000600000014000300"
        "0a60000a0000000000000000000000000600040000500000"
        "2800028006000b000200000014000100"
        "0af40102000000000000000000000000060002001f900000"
    )


def test_timeouts_are_said_only_where_they_are_wanted() -> None:
    assert messages.timeouts_payload(Timeouts(900, 120, 300)).hex() == (
        "0c01000008000400840300000800050078000000080006002c010000"
    )
    assert messages.timeouts_payload(Timeouts(udp=300)).hex() == "0c010000080006002c010000"
    assert messages.decode_timeouts(bytes.fromhex("0c010000080006002c010000")) == Timeouts(udp=300)


def test_a_service_by_packet_mark_is_nobody_we_know() -> None:
    marked = codec.nested(1, codec.attribute(1, b"\2\0"), codec.u32(5, 7))
    assert messages.decode_service(messages.payload(Command.NEW_SERVICE, marked)) is None


def test_the_controller_is_asked_as_libnl_asks_it() -> None:
    assert family_request("IPVS").hex() == "03010000090002004950565300000000"
    assert family_number(bytes.fromhex("01020000") + codec.attribute(1, b"\x1c\0")) == 0x1C
    with pytest.raises(MalformedMessage, match="family number"):
        family_number(bytes.fromhex("01020000"))


addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
numbers = st.integers(0, 0xFFFFFFFF)
ports = st.integers(0, 0xFFFF)


@st.composite
def virtual_services(draw: st.DrawFn) -> VirtualService:
    key = ServiceKey(draw(st.integers(0, 0xFFFF)), draw(addresses), draw(ports))
    mask = draw(st.none() | st.integers(0, 8 * len(key.address) - 1))
    flags = draw(numbers) & ~ServiceFlag.HASHED
    return VirtualService(key, draw(st.sampled_from(["rr", "wlc", "mh"])), flags, draw(numbers), mask)


@given(virtual_services())
def test_virtual_services_survive_the_way_there_and_back(service: VirtualService) -> None:
    sent = messages.payload(Command.SET_SERVICE, messages.service_attribute(service))
    assert messages.decode_service(sent) == ListedService(service)


@given(
    st.builds(
        Destination,
        st.builds(DestinationKey, addresses, ports),
        numbers,
        st.sampled_from(Method),
        numbers,
        numbers,
    )
)
def test_destinations_survive_the_way_there_and_back(destination: Destination) -> None:
    sent = messages.payload(Command.SET_DEST, messages.destination_attribute(destination))
    assert messages.decode_destination(sent, WEB) == ListedDestination(destination)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused_and_never_crash(payload: bytes) -> None:
    for decode in (
        messages.decode_service,
        lambda raw: messages.decode_destination(raw, WEB),
        messages.decode_timeouts,
        messages.decode_statistics,
        family_number,
    ):
        with contextlib.suppress(MalformedMessage):
            decode(payload)


@given(st.sampled_from([LISTED_SERVICE, LISTED_DESTINATION]), st.data())
def test_damaged_listings_are_read_or_refused_and_never_crash(golden: str, data: st.DataObject) -> None:
    raw = bytearray.fromhex(golden)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(MalformedMessage):
        messages.decode_service(cut)
    with contextlib.suppress(MalformedMessage):
        messages.decode_destination(cut, WEB)
