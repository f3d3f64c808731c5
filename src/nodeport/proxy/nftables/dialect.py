"""One family's way to say what rules say: where addresses are, how long they are, what refusing is called.

Every method gives expressions, as a tuple to be put into a rule. ``word`` is the register word that a value begins at;
an address takes one word in IPv4 and four in IPv6, so keys of several fields are laid out by ``address_words``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeport.forwarding.table import Family
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.expressions import Code, Expression, VerdictData, expression, register

Expressions = tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the families; ``netfilter_family`` is NFPROTO's number, ``address_type`` nft's."""

    family: Family
    netfilter_family: int
    address_type: int
    address_length: int
    source_offset: int
    destination_offset: int
    original_destination_key: int
    refusal: int

    @property
    def address_words(self) -> int:
        return self.address_length // 4

    @property
    def endpoint_length(self) -> int:
        """Address and port, the port padded to a word."""
        return self.address_length + 4

    def frontend_length(self, *, by_address: bool) -> int:
        """``[address .] protocol . port``"""
        return (self.address_length if by_address else 0) + 8

    def frontend_words(self, *, by_address: bool) -> int:
        return self.frontend_length(by_address=by_address) // 4

    def source(self, word: int = 0) -> Expressions:
        return (self._address(self.source_offset, word),)

    def destination(self, word: int = 0) -> Expressions:
        return (self._address(self.destination_offset, word),)

    def _address(self, offset: int, word: int) -> Expression:
        return expression(
            "payload",
            dreg=register(word),
            base=nft.NETWORK_HEADER,
            offset=offset,
            length=self.address_length,
        )

    def frontend(self, *, by_address: bool, word: int = 0) -> Expressions:
        """What the packet is addressed to: ``[daddr .] meta l4proto . th dport``"""
        start = word + (self.address_words if by_address else 0)
        return (
            *(self.destination(word) if by_address else ()),
            expression("meta", dreg=register(start), key=nft.META_L4PROTO),
            expression("payload", dreg=register(start + 1), base=nft.TRANSPORT_HEADER, offset=2, length=2),
        )

    def original_destination(self) -> Expressions:
        """What the client asked for, before the translation."""
        key = self.original_destination_key
        return (expression("ct", dreg=register(0), key=key, direction=nft.CT_ORIGINAL),)

    def original_frontend(self) -> Expressions:
        return (
            *self.original_destination(),
            expression("meta", dreg=register(self.address_words), key=nft.META_L4PROTO),
            original_port(self.address_words + 1),
        )

    def dnat(self, word: int = 0) -> Expressions:
        """To the endpoint in the registers from ``word`` on."""
        return (
            expression(
                "nat",
                type=nft.DNAT,
                family=self.netfilter_family,
                address=register(word),
                port=register(word + self.address_words),
                flags=nft.NAT_ADDRESS_AND_PORT,
            ),
        )

    def refuse(self) -> Expressions:
        """An ICMP error: port unreachable."""
        return (expression("reject", type=nft.REJECT_ICMP, code=self.refusal),)


IPV4: Final = Dialect(
    Family.IPV4, objects.FAMILY_IPV4, 7, 4, 12, 16, nft.CT_DST_IP, nft.ICMP_PORT_UNREACHABLE
)
IPV6: Final = Dialect(
    Family.IPV6, objects.FAMILY_IPV6, 8, 16, 8, 24, nft.CT_DST_IP6, nft.ICMPV6_PORT_UNREACHABLE
)


def dialect(family: Family) -> Dialect:
    return IPV4 if family is Family.IPV4 else IPV6


# --- what both families say alike


def protocol(word: int = 0) -> Expression:
    return expression("meta", dreg=register(word), key=nft.META_L4PROTO)


def original_port(word: int = 0) -> Expression:
    return expression("ct", dreg=register(word), key=nft.CT_PROTO_DST, direction=nft.CT_ORIGINAL)


def random_below(limit: int, word: int) -> Expression:
    return expression("numgen", dreg=register(word), modulus=limit, type=nft.NUMGEN_RANDOM)


def load_priority(word: int = 0) -> Expression:
    return expression("meta", dreg=register(word), key=nft.META_PRIORITY)


def set_priority(word: int = 0) -> Expression:
    return expression("meta", key=nft.META_PRIORITY, sreg=register(word))


def clear_priority() -> Expressions:
    return (expression("immediate", dreg=register(0), data=bytes(4)), set_priority())


def address_type_is_local(which: int) -> Expressions:
    """``fib saddr`` or ``fib daddr`` ``type local``; ``which``: FIB_SADDR or FIB_DADDR."""
    return (
        expression("fib", dreg=register(0), result=nft.FIB_ADDRESS_TYPE, flags=which),
        equals(struct.pack("=I", nft.RTN_LOCAL)),
    )


def from_node() -> Expressions:
    return address_type_is_local(nft.FIB_SADDR)


def translated() -> Expressions:
    """``ct status dnat``"""
    return (
        expression("ct", dreg=register(0), key=nft.CT_STATUS),
        masked(0, struct.pack("=I", nft.IPS_DST_NAT)),
        expression("cmp", sreg=register(0), op=nft.CMP_NEQ, data=bytes(4)),
    )


def masked(word: int, mask: bytes) -> Expression:
    """Leaves the bits of ``mask`` in a word."""
    place = register(word)
    return expression("bitwise", sreg=place, dreg=place, length=4, mask=mask, xor=bytes(4))


def through(interface: str) -> Expressions:
    """``iifname``: the whole name, or what names begin with when it ends in ``*``."""
    name = interface[:-1].encode() if interface.endswith("*") else interface.encode().ljust(16, b"\0")
    return (expression("meta", dreg=register(0), key=nft.META_IIFNAME), equals(name))


def in_set(name: str, *, inverted: bool = False) -> Expression:
    """Whether the key that begins at the first word is in the set."""
    return expression("lookup", set=name, sreg=register(0), flags=nft.LOOKUP_INVERTED if inverted else 0)


def mapped(name: str, word: int = 0, *, to: int = 0) -> Expression:
    """The value for the key at ``word``, put at ``to``; a key that is not there ends the rule."""
    return expression("lookup", set=name, sreg=register(word), dreg=register(to))


def verdict_of(name: str) -> Expression:
    return expression("lookup", set=name, sreg=register(0), dreg=nft.VERDICT_REGISTER)


def equals(value: bytes) -> Expression:
    return expression("cmp", sreg=register(0), op=nft.CMP_EQ, data=value)


def masquerade() -> Expression:
    return expression("masq")


def jump(chain: str) -> Expression:
    return expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.JUMP, chain))


def goto(chain: str) -> Expression:
    return expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.GOTO, chain))


def verdict(code: Code) -> Expression:
    return expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(code))
