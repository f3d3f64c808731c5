"""How what ends a command is told: known errors in a sentence, bugs with their traceback."""

from __future__ import annotations

from nodeport.cli.errors import sentence


def test_known_errors_of_a_group_are_told_once_each() -> None:
    group = BaseExceptionGroup(
        "", [OSError("no route"), ExceptionGroup("", [OSError("no route"), ValueError("no")])]
    )
    assert sentence(group, (OSError, ValueError)) == "no route; no"
    assert sentence(OSError("no route"), (OSError,)) == "no route"


def test_a_bug_among_them_is_not_told_away() -> None:
    assert sentence(ExceptionGroup("", [OSError("no route"), KeyError("x")]), (OSError,)) is None
    assert sentence(KeyboardInterrupt(), (OSError,)) is None
