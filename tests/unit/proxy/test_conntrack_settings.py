"""Which settings of connection tracking are written: kube-proxy's rules."""

from __future__ import annotations

import pytest

from nodeport.api.kubeproxy.types import Conntrack, Duration
from nodeport.proxy.conntrack_settings import (
    CLOSE_WAIT,
    ESTABLISHED,
    HASHSIZE,
    LIBERAL,
    MAX,
    UDP,
    UDP_STREAM,
    limit,
    settings_to_write,
)


@pytest.mark.parametrize(
    ("per_core", "least", "cores", "wanted"),
    [
        (32768, 131072, 2, 131072),
        (32768, 131072, 8, 262144),
        (32768, 131072, 64, 1048576),
        (32768, 2000000, 2, 2000000),
        (0, 131072, 8, 0),
        (None, None, 8, 0),
        (1000, None, 3, 3000),
    ],
)
def test_the_limit_grows_with_the_cores(
    per_core: int | None, least: int | None, cores: int, wanted: int
) -> None:
    assert limit(Conntrack(maxPerCore=per_core, min=least), cores) == wanted


def written(wanted: Conntrack, there: dict[str, int]) -> dict[str, int]:
    return {setting.name: setting.value for setting in settings_to_write(wanted, 8, there)}


def test_the_limit_and_the_hash_table_are_only_raised() -> None:
    wanted = Conntrack(maxPerCore=1000, min=0)
    assert written(wanted, {MAX: 7000, HASHSIZE: 1999}) == {MAX: 8000, HASHSIZE: 2000}
    assert written(wanted, {MAX: 8001, HASHSIZE: 2000}) == {}
    assert written(wanted, {MAX: 9000, HASHSIZE: 500}) == {HASHSIZE: 2000}


def test_timeouts_are_set_as_wanted_and_left_alone_where_they_are_not() -> None:
    wanted = Conntrack(
        tcpEstablishedTimeout=Duration(hours=24),
        tcpCloseWaitTimeout=Duration(0),
        udpTimeout=Duration(seconds=30),
    )
    there = {ESTABLISHED: 432000, CLOSE_WAIT: 60, LIBERAL: 0, UDP: 30, UDP_STREAM: 120}
    assert written(wanted, there) == {ESTABLISHED: 86400}


def test_the_liberal_view_of_windows_is_switched_on_and_never_off() -> None:
    assert written(Conntrack(tcpBeLiberal=True), {LIBERAL: 0}) == {LIBERAL: 1}
    assert written(Conntrack(tcpBeLiberal=False), {LIBERAL: 1}) == {}


def test_what_cannot_be_read_is_written_all_the_same() -> None:
    assert written(Conntrack(maxPerCore=1000, udpStreamTimeout=Duration(minutes=3)), {}) == {
        MAX: 8000,
        UDP_STREAM: 180,
    }
