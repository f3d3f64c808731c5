from __future__ import annotations

from nodeport.apiserver.health import Health

HEALTH = Health({"ping": lambda: True, "store": lambda: False})


def test_a_failed_check_is_told_without_its_reason() -> None:
    found = HEALTH.answer("/readyz")
    assert (found.status, found.text) == (
        500, "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n",
    )  # fmt: skip
    alone = HEALTH.answer("/readyz/store")
    assert (alone.status, alone.text) == (500, "internal server error: store failed\n")


def test_a_failed_check_that_is_excluded_fails_nothing() -> None:
    assert HEALTH.answer("/readyz", exclude=["store"]).text == "ok"


def test_no_check_fails_livez() -> None:
    assert HEALTH.answer("/livez").text == HEALTH.answer("/livez/store").text == "ok"


def test_only_what_there_is_is_known() -> None:
    assert all(map(HEALTH.knows, ("/healthz", "/livez", "/readyz", "/readyz/store")))
    assert not any(map(HEALTH.knows, ("/healthz/etcd", "/healthz/", "/store", "/readyz/store/x", "")))
