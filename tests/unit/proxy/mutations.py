"""Everything that could go wrong with a ruleset by one step, such that the kernel would still take it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables.expressions import Code, Expression, VerdictData, expression
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, Rule, Set, SetFlag
from nodeport.proxy.nftables.ruleset import Ruleset

Mutation = tuple[str, Ruleset]
"""What was done, and what came of it."""


def mutations(ruleset: Ruleset, rng: random.Random, *, elements_of_each_set: int) -> Iterator[Mutation]:
    """All of the rules and chains, and some elements of every set."""
    for chain in ruleset.chains.values():
        yield from _of_chain(ruleset, chain)
    for item in ruleset.sets.values():
        yield from _of_set(ruleset, item, rng, elements_of_each_set)
    yield from _additions(ruleset)


def _with_chain(ruleset: Ruleset, chain: Chain) -> Ruleset:
    return Ruleset({**ruleset.chains, chain.name: chain}, ruleset.sets, ruleset.elements)


def _of_chain(ruleset: Ruleset, chain: Chain) -> Iterator[Mutation]:
    rules = list(chain.rules)
    if rules:
        yield f"flush {chain.name}", _with_chain(ruleset, replace(chain, rules=()))
    for index, rule in enumerate(rules):
        where = f"{chain.name} rule {index}"
        variants: dict[str, list[Rule]] = {
            "removed": [*rules[:index], *rules[index + 1 :]],
            "doubled": [*rules[:index], rule, *rules[index:]],
            "first": [rule, *rules[:index], *rules[index + 1 :]],
            "last": [*rules[:index], *rules[index + 1 :], rule],
            "behind accept": [*rules[:index], Rule((_verdict(Code.ACCEPT),)), *rules[index:]],
        }
        for what, changed in _altered(rule):
            variants[what] = [*rules[:index], changed, *rules[index + 1 :]]
        for what, made in variants.items():
            if made != rules:
                yield f"{where} {what}", _with_chain(ruleset, replace(chain, rules=tuple(made)))
    if chain.hook is not None:
        chains = {name: item for name, item in ruleset.chains.items() if name != chain.name}
        yield f"{chain.name} removed", Ruleset(chains, ruleset.sets, ruleset.elements)
        moved = replace(chain, hook=replace(chain.hook, hook=Hook.INPUT))
        yield f"{chain.name} moved to another hook", _with_chain(ruleset, moved)
        strict = replace(chain, hook=replace(chain.hook, policy=Code.DROP))
        yield f"{chain.name} with policy drop", _with_chain(ruleset, strict)


def _altered(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """One expression of the rule says something else."""
    for index, item in enumerate(rule.expressions):
        for what, other in _others(item):
            changed = (*rule.expressions[:index], other, *rule.expressions[index + 1 :])
            yield f"{item.name} {index} {what}", replace(rule, expressions=changed)


def _others(item: Expression) -> Iterator[tuple[str, Expression]]:
    match item.name:
        case "cmp":
            operation = nft.CMP_EQ if item.number("op") == nft.CMP_NEQ else nft.CMP_NEQ
            yield "negated", _changed(item, op=operation)
        case "lookup" if item.number("dreg", -1) == -1:
            yield "negated", _changed(item, flags=item.number("flags") ^ nft.LOOKUP_INVERTED)
        case "immediate" if isinstance(item["data"], VerdictData):
            for code in (Code.ACCEPT, Code.DROP, Code.RETURN):
                if item["data"] != VerdictData(code):
                    yield f"to {code.name}", _verdict(code)
        case "fib":
            flags = nft.FIB_SADDR + nft.FIB_DADDR - item.number("flags")
            yield "of the other address", _changed(item, flags=flags)
        case "numgen" if item.number("modulus") > 1:
            yield "of fewer", _changed(item, modulus=item.number("modulus") - 1)
        case "masq" | "reject":
            yield "to accept", _verdict(Code.ACCEPT)


def _changed(item: Expression, **values: nft.Value) -> Expression:
    return expression(item.name, **{**dict(item.values), **values})


def _verdict(code: Code) -> Expression:
    return expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(code))


def _of_set(ruleset: Ruleset, item: Set, rng: random.Random, most: int) -> Iterator[Mutation]:
    elements = dict(ruleset.elements_of(item.name))
    keys = sorted(elements)
    if keys:
        yield f"flush {item.name}", _with_elements(ruleset, item, {})
    for key in rng.sample(keys, min(most, len(keys))):
        without = {name: data for name, data in elements.items() if name != key}
        yield f"{item.name} without {key.hex()}", _with_elements(ruleset, item, without)
        if item.flags & SetFlag.INTERVAL:
            continue
        flipped = bytes((*key[:-1], key[-1] ^ 1)) if len(key) % 4 else bytes((key[0] ^ 1, *key[1:]))
        if flipped not in elements:
            other = {**without, flipped: elements[key]}
            yield f"{item.name} {key.hex()} exchanged for another", _with_elements(ruleset, item, other)
        others = [data for data in elements.values() if data != elements[key]]
        if others:
            changed = {**elements, key: rng.choice(others)}
            yield f"{item.name} {key.hex()} with other data", _with_elements(ruleset, item, changed)


def _with_elements(ruleset: Ruleset, item: Set, elements: dict[bytes, nft.Data]) -> Ruleset:
    return Ruleset(ruleset.chains, ruleset.sets, {**deepcopy(ruleset.elements), item.name: elements})


def _additions(ruleset: Ruleset) -> Iterator[Mutation]:
    """What somebody else could put beside ours."""
    hooks = {Hook.PREROUTING: -300, Hook.FORWARD: 0, Hook.OUTPUT: -300, Hook.POSTROUTING: 50}
    for hook, priority in hooks.items():
        chain = Chain("somebody", (Rule((_verdict(Code.DROP),)),), BaseHook("filter", hook, priority))
        yield f"a chain at {hook.name} that drops", _with_chain(ruleset, chain)
    yield "dormant", Ruleset(ruleset.chains, ruleset.sets, ruleset.elements, dormant=True)
    yield "a chain that nothing leads to", _with_chain(ruleset, Chain("idle"))
