"""The state machine against the simplest thing that could be right: a copy of everything at every revision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.store.base import (
    Compacted,
    Delete,
    FutureRevision,
    Operation,
    PreconditionFailed,
    Put,
    Revision,
)
from nodeport.store.state import Commit, State, Undecided

KEYS = ["/a", "/a/1", "/a/2", "/ab", "/b/1", "/b/2", "/b/3", "/c"]
PREFIXES = ["", "/", "/a", "/a/", "/b/", "/zzz"]

operations = st.lists(
    st.one_of(
        st.builds(Put, st.sampled_from(KEYS), st.binary(max_size=2)), st.builds(Delete, st.sampled_from(KEYS))
    ),
    min_size=1, max_size=4, unique_by=lambda operation: operation.key,
)  # fmt: skip


@given(st.lists(operations, max_size=25), st.integers(0, 25), st.sampled_from(PREFIXES), st.sampled_from(["", *KEYS]),
       st.integers(0, 5))  # fmt: skip
def test_every_revision_reads_as_it_was(
    history: list[list[Operation]], compacted: int, prefix: str, start_after: str, limit: int
) -> None:
    state, snapshots = State(), [dict[str, bytes]()]
    for commit in history:
        state.publish(state.stage(commit))
        after = dict(snapshots[-1])
        for operation in commit:
            match operation:
                case Put(key=key, value=value):
                    after[key] = value
                case Delete(key=key):
                    after.pop(key, None)
        snapshots.append(after)
    compacted = min(compacted, len(history))
    state.compact(Revision(compacted))
    for revision, snapshot in enumerate(snapshots):
        if revision < compacted:
            with pytest.raises(Compacted):
                state.list_prefix(prefix, "", 0, Revision(revision))
            continue
        wanted = sorted((k, v) for k, v in snapshot.items() if k.startswith(prefix) and k > start_after)
        listing = state.list_prefix(prefix, start_after, limit, Revision(revision))
        cut = wanted[:limit] if limit else wanted
        assert [(item.key, item.value) for item in listing.items] == cut
        assert listing.remaining == len(wanted) - len(cut)
        for key in KEYS:
            item = state.get(key, Revision(revision))
            assert (item.value if item else None) == snapshot.get(key)


@given(st.lists(operations, max_size=25), st.integers(0, 25))
def test_replaying_the_events_gives_the_state(history: list[list[Operation]], since: int) -> None:
    state = State()
    for commit in history:
        state.publish(state.stage(commit))
    since = min(since, len(history))
    replayed = {item.key: item for item in state.list_prefix("", "", 0, Revision(since)).items}
    for event in state.events_after(Revision(since), ""):
        assert replayed.get(event.key) == event.previous
        if event.current is None:
            del replayed[event.key]
        else:
            replayed[event.key] = event.current
    assert list(dict(sorted(replayed.items())).values()) == list(state.list_prefix("", "", 0).items)


def staged(state: State, *commits: Operation) -> list[Commit]:
    return [state.stage([operation]) for operation in commits]


def test_what_is_staged_is_invisible_and_counts_for_what_is_staged_next() -> None:
    state = State()
    first, second = staged(state, Put("/a", b"1", 0), Put("/a", b"2"))
    assert (state.get("/a"), state.revision) == (None, 0)
    state.publish(first)
    state.publish(second)
    item = state.get("/a")
    assert item is not None
    assert (item.value, item.create_revision, item.mod_revision) == (b"2", 1, 2)


def test_a_conflict_with_what_is_only_staged_is_undecided() -> None:
    state = State()
    (first,) = staged(state, Put("/a", b"1", 0))
    with pytest.raises(Undecided):
        state.stage([Put("/a", b"2", 0)])
    state.publish(first)
    with pytest.raises(PreconditionFailed):
        state.stage([Put("/a", b"2", 0)])


def test_publishing_an_old_deletion_does_not_uncover_what_lies_above_it() -> None:
    state = State()
    (made,) = staged(state, Put("/a", b"1"))
    state.publish(made)
    deleted, again, gone = staged(state, Delete("/a"), Put("/a", b"2", 0), Delete("/a"))
    state.publish(deleted)
    with pytest.raises(Undecided):
        state.stage([Delete("/a", 3)])
    state.publish(again)
    state.publish(gone)
    assert state.get("/a") is None


def test_discarding_gives_revisions_and_conditions_back() -> None:
    state = State()
    staged(state, Put("/a", b"1", 0), Put("/b", b"1"))
    state.discard_staged()
    assert state.stage([Put("/a", b"2", 0)]).revision == 1


def test_commits_are_published_in_order() -> None:
    state = State()
    _, second = staged(state, Put("/a", b""), Put("/b", b""))
    with pytest.raises(ValueError, match="published after"):
        state.publish(second)


def test_the_future_is_unknown() -> None:
    with pytest.raises(FutureRevision):
        State().get("/a", Revision(1))
