"""Sets of fields as trees, in the form that ``fieldsV1`` has on the wire.

``{"f:spec": {"f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}}``: a node without
children is a member; a node with children is one when it has the child ``.``. The empty tree is the empty set. Trees
are shared between sets and objects, so nothing here or elsewhere changes one in place. Elements stand in the order in
which they are written, so that a set needs no sorting to be written.

Rules: the field sets of structured-merge-diff, by which Kubernetes keeps its managed fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from nodeport.api.managedfields.elements import SELF, canonical, in_order, shown

Tree = dict[str, Any]
Path = tuple[str, ...]

LEAF: Final[Tree] = {}
"""The node of a member without children."""
EMPTY: Final[Tree] = {}
_SELF_ONLY: Final[Tree] = {SELF: LEAF}


def is_member(node: Tree) -> bool:
    return not node or SELF in node


def with_self(node: Tree) -> Tree:
    """The node as a member."""
    return node if not node or SELF in node else {SELF: LEAF, **node}


def union(ours: Tree, theirs: Tree) -> Tree:
    """What is in either set."""
    if not ours or ours is theirs:
        return theirs
    made = dict(ours)
    for element, node in theirs.items():
        found = made.get(element)
        if found is None:
            made[element] = node
        elif element != SELF and found is not node:
            made[element] = _union_of_nodes(found, node)
    if len(made) > len(ours):
        return {element: made[element] for element in in_order(made)}
    return made


def _union_of_nodes(ours: Tree, theirs: Tree) -> Tree:
    if not ours:
        return with_self(theirs)
    return union(ours, theirs) if theirs else with_self(ours)


def intersection(ours: Tree, theirs: Tree) -> Tree:
    """What is in both sets."""
    made: Tree = {}
    for element, node in ours.items():
        other = theirs.get(element)
        if other is None:
            continue
        if element == SELF:
            made[SELF] = LEAF
            continue
        below = intersection(node, other) if node and other else {}
        if is_member(node) and is_member(other):
            made[element] = {SELF: LEAF, **below} if below and below.keys() != {SELF} else LEAF
        elif below:
            made[element] = below
    return made


def difference(ours: Tree, theirs: Tree) -> Tree:
    """The members of ``ours`` that ``theirs`` does not have; children of a member that is taken away stay."""
    return _difference(ours, theirs, recursive=False)


def recursive_difference(ours: Tree, theirs: Tree) -> Tree:
    """The members of ``ours`` that are neither members of ``theirs`` nor below one."""
    return _difference(ours, theirs, recursive=True)


def _difference(ours: Tree, theirs: Tree, *, recursive: bool) -> Tree:
    if not theirs:
        return ours
    made: Tree = {}
    for element, node in ours.items():
        other = theirs.get(element)
        if other is None:
            made[element] = node
            continue
        left = None if element == SELF else _node_without(node, other, recursive=recursive)
        if left is not None:
            made[element] = left
    return made


def _node_without(node: Tree, other: Tree, *, recursive: bool) -> Tree | None:
    taken = is_member(other)
    if not node:
        return None if taken else node
    if taken and recursive:
        return None
    left = _difference(node, other or _SELF_ONLY, recursive=recursive)
    if left.keys() == {SELF}:
        return LEAF
    return left or None


def overlaps(ours: Tree, theirs: Tree) -> bool:
    """Whether the sets have a member in common."""
    for element, node in theirs.items():
        other = ours.get(element)
        if other is None:
            continue
        if element == SELF or (is_member(node) and is_member(other)) or overlaps(other, node):
            return True
    return False


def covers(ours: Tree, theirs: Tree) -> bool:
    """Whether every member of ``theirs`` is one of ``ours``."""
    for element, node in theirs.items():
        other = ours.get(element)
        if other is None:
            return False
        if is_member(node) and not is_member(other):
            return False
        if element != SELF and node and not covers(other or _SELF_ONLY, node):
            return False
    return True


def contains(tree: Tree, path: Path) -> bool:
    """Whether the field at ``path`` is a member; nobody owns the whole object."""
    node: Tree | None = tree
    for element in path:
        node = node.get(element) if node else None
        if node is None:
            return False
    return bool(path) and is_member(node or LEAF)


def tree_of(*paths: Path) -> Tree:
    """The set of these paths."""
    made: Tree = EMPTY
    for path in paths:
        node: Tree = LEAF
        for element in reversed(path):
            node = {element: node}
        made = union(made, node)
    return made


def paths(tree: Tree) -> Iterator[Path]:
    """The members, those of a node before those below it."""
    yield from _paths(tree, ())


def _paths(node: Tree, above: Path) -> Iterator[Path]:
    elements = [element for element in in_order(node) if element != SELF]
    for element in elements:
        if is_member(node[element]):
            yield (*above, element)
    for element in elements:
        if node[element]:
            yield from _paths(node[element], (*above, element))


def path_text(path: Path) -> str:
    """``.spec.ports[port=80,protocol="TCP"].nodePort``."""
    return "".join(map(shown, path))


def ordered(tree: Tree) -> Tree:
    """The same set with its elements in the order in which they are written."""
    if not tree:
        return tree
    return {element: ordered(tree[element]) for element in in_order(tree)}


def read(fields: Any) -> Tree:
    """A set, not in order, from a client's ``fieldsV1``; unknown kinds of elements are dropped.

    ``BadElement`` (a ValueError) when an element is malformed, TypeError when a node is no object.
    """
    if fields is None:
        return EMPTY
    if not isinstance(fields, dict):
        raise TypeError("fieldsV1 must be an object")
    made: Tree = {}
    for element, node in fields.items():
        if element == SELF:
            made[SELF] = LEAF
            continue
        name = canonical(element)
        if name is None:
            continue
        child = read(node)
        made[name] = LEAF if child.keys() == {SELF} else child
    return made
