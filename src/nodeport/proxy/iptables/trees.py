"""Finding one rule among many by a few comparisons: trees of chains over addresses or ports. Pure.

iptables compares rule after rule. In one flat chain of 10,000 Services a connection meets 5,000 rules on average;
here it meets about seventy, and a change rewrites one leaf. Branches are there only while something hangs on them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from nodeport.forwarding.table import Family, IPAddress, Protocol
from nodeport.proxy.iptables.ruleset import Chains, Key, Rules, Table


@dataclass(frozen=True, slots=True)
class Step:
    """One branching: the chain that holds it, its place among its siblings, what it compares, and where it leads."""

    parent: str
    key: Key
    match: str
    child: str


class Tree:
    """``root``: the chain where it starts, there already. ``stem``: how its own chains' names begin.

    Without ``then`` a branch is called and comes back; with it, who finds no rule goes on at the chain ``then``, and
    RETURN leaves all of ours.
    """

    def __init__(self, table: Table, root: str, stem: str, then: str = "") -> None:
        self.table = table
        self.root = root
        self._stem = stem
        self._tail: Rules = (f"-g {then}",) if then else ()
        self._verb = "-g" if then else "-j"

    def steps(self, key: Key) -> Iterator[Step]:
        """From the root to the leaf that holds ``key``."""
        raise NotImplementedError

    def put(self, chains: Chains, key: Key, rules: Rules) -> None:
        """Makes ``rules`` what the leaf says about ``key``, and the way to the leaf if there is none."""
        path = list(self.steps(key))
        made = chains.put_item(path[-1].child, key, rules, self._tail)
        while made and path:
            step = path.pop()
            made = chains.put_item(
                step.parent, step.key, (f"{step.match} {self._verb} {step.child}",), self._tail
            )

    def remove(self, chains: Chains, key: Key) -> None:
        """Nothing is said about ``key`` any more; branches that bear nothing go."""
        path = list(self.steps(key))
        emptied = chains.remove_item(path[-1].child, key)
        while emptied and path:
            step = path.pop()
            emptied = chains.remove_item(step.parent, step.key)


class AddressTree(Tree):
    """By the last bits of the destination, four on each level; keys begin with the address as an integer.

    The last ones, because those are what the addresses of one network differ in.
    """

    def __init__(
        self, table: Table, root: str, stem: str, then: str = "", *, levels: int, family: Family
    ) -> None:
        super().__init__(table, root, stem, then)
        self._masks = [
            (
                shift,
                [
                    f"-d {address(digit << shift, family)}/{address(15 << shift, family)}"
                    for digit in range(16)
                ],
            )
            for shift in range(0, 4 * levels, 4)
        ]

    def steps(self, key: Key) -> Iterator[Step]:
        parent, child = self.root, f"{self._stem}-"
        for shift, matches in self._masks:
            digit = key[0] >> shift & 15
            child = f"{child}{digit:X}"
            yield Step(parent, (digit,), matches[digit], child)
            parent = child


class OriginalAddressTree(Tree):
    """By the network of 256 addresses in which the destination lay before it was translated; keys as above.

    Not by the last bits: ``iptables-save`` does not print such a mask of ``--ctorigdst``.
    """

    def __init__(self, table: Table, root: str, stem: str, then: str, *, family: Family) -> None:
        super().__init__(table, root, stem, then)
        self._family = family

    def steps(self, key: Key) -> Iterator[Step]:
        network = ip_network((address(key[0] >> 8 << 8, self._family), self._family.bits - 8))
        match = f"-m conntrack --ctorigdst {network}"
        yield Step(self.root, (key[0] >> 8,), match, f"{self._stem}-{digest(str(network), 8)}")


class PortTree(Tree):
    """By ranges of 256 and then of 16 ports of one protocol; keys are (protocol, port).

    ``original``: the port that was asked for, before the translation.
    """

    def __init__(self, table: Table, root: str, stem: str, *, original: bool = False) -> None:
        super().__init__(table, root, stem)
        self._original = original

    def steps(self, key: Key) -> Iterator[Step]:
        protocol, parent = Protocol(key[0]), self.root
        for bits, digits in ((8, 2), (4, 3)):
            block = key[1] >> bits
            first = block << bits
            child = f"{self._stem}-{protocol.name}-{block:0{digits}X}"
            ports = f"{first}:{first + (1 << bits) - 1}"
            yield Step(parent, (key[0], block), port_match(protocol, ports, original=self._original), child)
            parent = child


def port_match(protocol: Protocol, ports: str | int, *, original: bool = False) -> str:
    """``ports``: one, or a range such as ``16:31``; ``original``: before the translation."""
    word = protocol.name.lower()
    if original:
        return f"-p {word} -m conntrack --ctorigdstport {ports}"
    return f"-p {word} -m {word} --dport {ports}"


def address(number: int, family: Family) -> IPAddress:
    return IPv4Address(number) if family is Family.IPV4 else IPv6Address(number)


def digest(text: str, length: int) -> str:
    """``length`` (16 at most) letters and digits that stand for ``text`` alone, for all practical purposes."""
    return base64.b32encode(hashlib.blake2b(text.encode(), digest_size=10).digest()).decode()[:length]
