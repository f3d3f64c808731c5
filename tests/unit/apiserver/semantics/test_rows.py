"""Hundreds of valid, odd and bad Services and changes of Services, each with all that must come back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unit.apiserver.semantics import family_rows, order, type_rows, validation_rows
from unit.apiserver.semantics.harness import Create, Served, Update, ids, run_create, run_update
from unit.apiserver.semantics.rules import ALL

CREATES = [*validation_rows.ROWS, *family_rows.CREATES, *type_rows.CREATES]
UPDATES = [*family_rows.UPDATES, *type_rows.UPDATES]


@pytest.mark.parametrize("case", CREATES, ids=ids(CREATES))
def test_new_services(cluster: Callable[[str], Served], case: Create) -> None:
    run_create(cluster(case.cluster), case)


@pytest.mark.parametrize("case", UPDATES, ids=ids(UPDATES))
def test_changes_of_services(cluster: Callable[[str], Served], case: Update) -> None:
    run_update(cluster(case.cluster), case)


@pytest.mark.parametrize("story", order.STORIES, ids=lambda story: story.__name__)
def test_stories(cluster: Callable[[str], Served], story: Callable[[Served], None]) -> None:
    story(cluster("v4"))


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    covered = {case.rule for case in (*CREATES, *UPDATES)} | set(order.RULES_TOLD)
    assert covered == ALL
    for cases in (CREATES, UPDATES):
        assert len(set(ids(cases))) == len(cases)
    assert len(CREATES) + len(UPDATES) > 400
