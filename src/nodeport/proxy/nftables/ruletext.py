"""Rules in the words in which ``nft`` lists them. Pure.

A rule loads fields into registers and then does something with what is in them; its text says what that is. Registers
hold text here. What begins at the first word begins a new key: nothing that was behind it counts any more.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from typing import Final

from nodeport.forwarding.table import Protocol
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables.expressions import Expression, Value, VerdictData, word_of
from nodeport.netlink.nftables.objects import FAMILY_IPV4, Rule

_PAYLOADS: Final = {
    (nft.NETWORK_HEADER, 12, 4): "ip saddr",
    (nft.NETWORK_HEADER, 16, 4): "ip daddr",
    (nft.NETWORK_HEADER, 8, 16): "ip6 saddr",
    (nft.NETWORK_HEADER, 24, 16): "ip6 daddr",
    (nft.TRANSPORT_HEADER, 2, 2): "th dport",
}
_METAS: Final = {
    nft.META_PRIORITY: "meta priority",
    nft.META_IIFNAME: "iifname",
    nft.META_OIFNAME: "oifname",
    nft.META_L4PROTO: "meta l4proto",
}
_CTS: Final = {
    nft.CT_STATUS: "ct status",
    nft.CT_PROTO_DST: "ct original proto-dst",
    nft.CT_DST_IP: "ct original ip daddr",
    nft.CT_DST_IP6: "ct original ip6 daddr",
}
_FIBS: Final = {nft.FIB_SADDR: "fib saddr type", nft.FIB_DADDR: "fib daddr type"}
_PROTOCOLS: Final = {protocol.value: protocol.name.lower() for protocol in Protocol}
_LOCAL: Final = struct.pack("=I", nft.RTN_LOCAL)
_DNAT_STATUS: Final = struct.pack("=I", nft.IPS_DST_NAT)
_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


class Unspeakable(Exception):
    """Something that no rule of ours says."""


def rule_text(rule: Rule) -> str:
    """Raises Unspeakable for what may stand in the rules of others only."""
    speaker = _Speaker()
    for item in rule.expressions:
        try:
            speaker.say(item)
        except (KeyError, TypeError, ValueError) as error:
            raise Unspeakable(item.name) from error
    comment = [f'comment "{rule.comment}"'] if rule.comment else []
    return " ".join([*speaker.said, *comment])


class _Speaker:
    """``said``: what is finished. ``_words``: by register word the text of what is there, and its length in words."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._words: dict[int, tuple[str, int]] = {}
        self._sayings: Mapping[str, Callable[[Expression], None]] = {
            "payload": self._payload,
            "meta": self._meta,
            "ct": lambda item: self._load(
                item, _CTS[item.number("key")], 4 if item["key"] == nft.CT_DST_IP6 else 1
            ),
            "fib": lambda item: self._load(item, _FIBS[item.number("flags")]),
            "numgen": lambda item: self._load(item, f"numgen random mod {item.number('modulus')}"),
            "bitwise": self._bitwise,
            "cmp": self._compare,
            "immediate": self._immediate,
            "lookup": self._lookup,
            "dynset": self._remember,
            "nat": self._translate,
            "masq": lambda item: self.said.append("masquerade"),
            "reject": self._reject,
        }

    def say(self, item: Expression) -> None:
        self._sayings[item.name](item)

    def _load(self, item: Expression, text: str, words: int = 1) -> None:
        place = word_of(item.number("dreg"))
        if place == 0:
            self._words.clear()
        self._words[place] = (text, words)

    def _key(self, register: int, end: int | None = None) -> str:
        """All that stands in a row from ``register`` on, up to ``end``."""
        place, parts = word_of(register), []
        while place in self._words and place != end:
            text, words = self._words[place]
            parts.append(text)
            place += words
        if not parts:
            raise ValueError("nothing was loaded")
        return " . ".join(parts)

    def _payload(self, item: Expression) -> None:
        length = item.number("length")
        self._load(item, _PAYLOADS[item.number("base"), item.number("offset"), length], (length + 3) // 4)

    def _meta(self, item: Expression) -> None:
        name = _METAS[item.number("key")]
        if item.number("sreg"):
            self.said.append(f"{name} set {self._words[word_of(item.number('sreg'))][0]}")
        else:
            self._load(item, name)

    def _bitwise(self, item: Expression) -> None:
        place = word_of(item.number("sreg"))
        text, words = self._words[place]
        mask = item["mask"]
        if not isinstance(mask, bytes) or item["sreg"] != item["dreg"] or item["xor"] != bytes(len(mask)):
            raise ValueError("another operation")
        if text == "ct status" and mask == _DNAT_STATUS:
            self._words[place] = ("ct status dnat", words)
        elif text == "meta priority":
            number = int.from_bytes(mask, sys.byteorder)
            self._words[place] = (f"{text} & {number >> 16:x}:{number & 0xFFFF:x}", words)
        else:
            raise ValueError("another mask")

    def _compare(self, item: Expression) -> None:
        text, data, equal = self._key(item.number("sreg")), item["data"], item["op"] == nft.CMP_EQ
        if not isinstance(data, bytes):
            raise TypeError("a verdict")
        if text == "ct status dnat" and not equal and not any(data):
            self.said.append(text)
        elif text == "meta l4proto" and equal:
            self.said.append(f"{text} {_PROTOCOLS[data[0]]}")
        elif text in _FIBS.values() and equal and data == _LOCAL:
            self.said.append(f"{text} local")
        elif text in ("iifname", "oifname") and equal:
            name = data.rstrip(b"\0").decode()
            self.said.append(f'{text} "{name}{"" if data.endswith(bytes(1)) else "*"}"')
        else:
            raise ValueError("another comparison")

    def _immediate(self, item: Expression) -> None:
        data = item["data"]
        if isinstance(data, VerdictData):
            self.said.append(f"{data.code.name.lower()} {data.chain}".strip())
        elif data == bytes(4):
            self._load(item, "none")
        else:
            raise ValueError("a number")

    def _lookup(self, item: Expression) -> None:
        key, name = self._key(item.number("sreg")), _string(item["set"])
        destination = dict(item.values).get("dreg")
        if destination is None:
            inverted = "!= " if item.number("flags") & nft.LOOKUP_INVERTED else ""
            self.said.append(f"{key} {inverted}@{name}")
        elif destination == nft.VERDICT_REGISTER:
            self.said.append(f"{key} vmap @{name}")
        else:
            self._load(item, f"{key} map @{name}")

    def _remember(self, item: Expression) -> None:
        verb = {nft.DYNSET_UPDATE: "update", nft.DYNSET_DELETE: "delete"}[item.number("op")]
        data = item.number("sreg_data")
        key, value = self._key(item.number("sreg_key"), word_of(data)), self._key(data)
        timeout = item.number("timeout")
        lasting = f" timeout {_time(timeout)}" if timeout else ""
        self.said.append(f"{verb} @{_string(item['set'])} {{ {key}{lasting} : {value} }}")

    def _translate(self, item: Expression) -> None:
        if item["type"] != nft.DNAT:
            raise ValueError("another translation")
        family = "ip" if item["family"] == FAMILY_IPV4 else "ip6"
        self.said.append(f"dnat {family} to {self._words[word_of(item.number('address'))][0]}")

    def _reject(self, item: Expression) -> None:
        if item["type"] == nft.REJECT_TCP_RESET:
            if self.said[-1:] == ["meta l4proto tcp"]:  # which a reset says as well
                self.said.pop()
            self.said.append("reject with tcp reset")
        elif item.number("code") in (nft.ICMP_PORT_UNREACHABLE, nft.ICMPV6_PORT_UNREACHABLE):
            self.said.append("reject")
        else:
            raise ValueError("another refusal")


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError("no name")
    return value


def _time(milliseconds: int) -> str:
    parts = []
    for unit, size in _UNITS:
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
