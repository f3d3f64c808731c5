"""nf_tables of one network namespace: atomic batches in, listings out."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import decode_counts, decode_elements
from nodeport.netlink.nftables.expressions import Data
from nodeport.netlink.nftables.objects import Chain, ListedRule, ListedSet, MessageType, Rule, Table
from nodeport.netlink.socket import (
    NETLINK_NETFILTER,
    Connection,
    DumpInterrupted,
    KernelRefused,
    Refusal,
    refusal_of,
)

_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11
_BATCH_HEADER: Final = bytes((0, 0, 0, objects.SUBSYSTEM))
_BATCH_GENERATION: Final = 1
_GENERATION_ID: Final = 1
_ATTEMPTS: Final = 20

Request = tuple[MessageType, int, bytes]
"""Message type, netlink flags beyond REQUEST, payload."""


@dataclass(frozen=True, slots=True)
class ListedTable:
    """All of one table as the kernel has it; ``elements`` by set name, absent where they were not asked for.

    Sets that packets fill are never listed: they are not anybody's to compare.
    """

    handle: int
    chains: dict[str, Chain]
    rules: dict[str, list[ListedRule]]
    sets: dict[str, ListedSet]
    elements: dict[str, dict[bytes, Data]] = field(default_factory=dict)
    dormant: bool = False


class Nftables(Connection):
    """A connection to nf_tables. Everything is synchronous; a batch takes effect whole or not at all."""

    protocol = NETLINK_NETFILTER

    def send_limit(self) -> int:
        """How many bytes one batch may have."""
        return self._socket.send_limit()

    def commit(self, requests: Sequence[Request], *, generation: int | None = None) -> None:
        """Sends one batch: all of it takes effect at once, or nothing does and KernelRefused tells why.

        With ``generation`` the kernel refuses (ERESTART) when anybody committed anything since that generation.
        """
        if not requests:
            return
        sequence = self._socket.next_sequence
        begin = _BATCH_HEADER
        if generation is not None:
            begin += codec.u32be(_BATCH_GENERATION, generation)
        parts = [codec.message(_BATCH_BEGIN, codec.NLM_F_REQUEST, sequence(), begin)]
        last = len(requests) - 1
        final = 0
        for index, (kind, flags, payload) in enumerate(requests):
            final = sequence()
            wanted = codec.NLM_F_REQUEST | flags | (codec.NLM_F_ACK if index == last else 0)
            parts.append(codec.message(kind.number, wanted, final, payload))
        parts.append(codec.message(_BATCH_END, codec.NLM_F_REQUEST, sequence(), _BATCH_HEADER))
        self._socket.send(b"".join(parts))
        self._read_answers(final)

    def _read_answers(self, final: int) -> None:
        """All answers are there when ``send`` returns, that to the last request at their end.

        Only the last request asked for an acknowledgement, and the kernel gives it even when the batch failed.
        """
        refusals: list[Refusal] = []
        acknowledged = False
        for answer in self._socket.pending():
            if answer.type != codec.NLMSG_ERROR:
                continue
            refusal = refusal_of(answer)
            if refusal.errno:
                refusals.append(refusal)
            elif refusal.sequence == final:
                acknowledged = True
                break
        if refusals:
            raise KernelRefused(refusals)
        if not acknowledged:
            raise KernelRefused([Refusal(final, errno.EPROTO, "the kernel did not acknowledge the batch")])

    def generation(self) -> int:
        """Counts commits to this namespace's nf_tables, everybody's."""
        answers = self._socket.request(MessageType.GETGEN.number, bytes(4))
        parts = codec.parse(answers[0].payload[4:])
        return int.from_bytes(parts[_GENERATION_ID], "big")

    def table_handle(self, table: Table) -> int | None:
        """The number the kernel gave the table when it was made; ``None`` when there is no such table."""
        there = self._table(table)
        return objects.table_handle(there) if there is not None else None

    def _table(self, table: Table) -> bytes | None:
        try:
            return self._socket.request(MessageType.GETTABLE.number, table.address)[0].payload
        except KernelRefused as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def list_table(self, table: Table, *, elements: bool = True) -> tuple[ListedTable | None, int]:
        """The table (``None``: there is none) and the generation it was listed in: a consistent picture of both.

        Raises DumpInterrupted when other writers never leave the time for a whole listing.
        """
        for _ in range(_ATTEMPTS):
            generation = self.generation()
            try:
                listed = self._list(table, elements=elements)
            except DumpInterrupted:
                continue
            except KernelRefused as error:
                if error.errno != errno.ENOENT:
                    raise
                continue
            if self.generation() == generation:
                return listed, generation
        raise DumpInterrupted(f"table {table.name} kept changing while it was listed")

    def _list(self, table: Table, *, elements: bool) -> ListedTable | None:
        there = self._table(table)
        if there is None:
            return None
        address = table.address
        chains = [
            objects.decode_chain(payload)
            for payload in self._dump(MessageType.GETCHAIN, table.header)
            if objects.table_name(payload) == table.name
        ]
        rules: dict[str, list[ListedRule]] = {}
        for payload in self._dump(MessageType.GETRULE, address):
            listed = objects.decode_rule(payload)
            rules.setdefault(listed.chain, []).append(listed)
        sets = [objects.decode_set(payload) for payload in self._dump(MessageType.GETSET, address)]
        return ListedTable(
            objects.table_handle(there),
            {chain.name: _with_rules(chain, rules.get(chain.name, ())) for chain in chains},
            rules,
            {item.set.name: item for item in sets},
            {
                item.set.name: self.list_elements(table, item)
                for item in sets
                if elements and not item.set.is_dynamic
            },
            objects.is_dormant(there),
        )

    def list_elements(self, table: Table, listed: ListedSet) -> dict[bytes, Data]:
        address = objects.set_name_payload(table, listed.set.name)
        return decode_elements(listed.set, self._dump(MessageType.GETSETELEM, address))

    def list_counts(self, table: Table, name: str) -> dict[bytes, tuple[int, int]]:
        """Packets and bytes of each element of a set that counts. KernelRefused (ENOENT) when there is none."""
        return decode_counts(self._dump(MessageType.GETSETELEM, objects.set_name_payload(table, name)))

    def _dump(self, kind: MessageType, payload: bytes) -> Iterable[bytes]:
        return [answer.payload for answer in self._socket.dump(kind.number, payload)]


def _with_rules(chain: Chain, rules: Iterable[ListedRule]) -> Chain:
    plain: tuple[Rule, ...] = tuple(listed.rule for listed in rules)
    return Chain(chain.name, plain, chain.hook)
