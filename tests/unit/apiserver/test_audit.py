"""The audit log: what it says of a request, and that it never gets in the way of one."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nodeport.apiserver.audit import MEGABYTE, AuditFile, AuditOptions, audit_id
from nodeport.kit.clock import SystemClock
from nodeport.testing.controlplane import eventually
from unit.apiserver.security import RBAC, Client, Json, asking, binding

PODS = "/api/v1/namespaces/default/pods"


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def found(path: Path, **wanted: Any) -> Json:
    async def matching() -> list[Json]:
        return [each for each in lines(path) if all(each.get(key) == value for key, value in wanted.items())]

    return (await eventually(matching))[0]


async def test_a_request_leaves_a_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with asking(audit=AuditOptions(path)) as ask:
        await ask("ann", "GET", f"{PODS}/p?x=1", User_Agent="tester", Audit_Id="my-id-1")
        event = await found(path, auditID="my-id-1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {key: event[key] for key in ("kind", "apiVersion", "level", "stage", "verb", "requestURI")} == {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete",
            "verb": "get", "requestURI": f"{PODS}/p?x=1",
        }  # fmt: skip
        assert event["user"] == {"username": "ann", "groups": ["system:authenticated"]}
        assert (event["sourceIPs"], event["userAgent"]) == (["127.0.0.1"], "tester")
        assert event["objectRef"] == {
            "resource": "pods",
            "namespace": "default",
            "name": "p",
            "apiVersion": "v1",
        }
        assert event["responseStatus"] | {"message": ""} == {
            "metadata": {}, "code": 403, "status": "Failure", "reason": "Forbidden", "message": "",
        }  # fmt: skip
        assert 'User "ann" cannot get resource "pods"' in event["responseStatus"]["message"]
        assert event["annotations"] == {"authorization.k8s.io/decision": "forbid"}
        assert event["requestReceivedTimestamp"] <= event["stageTimestamp"]


async def test_impersonation_writes_bodies_and_secrets_are_not_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with asking(audit=AuditOptions(path)) as ask:
        await ask("admin", "GET", PODS, Impersonate_User="bob", Audit_Id="as-bob")
        event = await found(path, auditID="as-bob")
        assert event["user"]["username"] == "root"
        assert event["impersonatedUser"] == {"username": "bob", "groups": ["system:authenticated"]}
        secret = {"metadata": {"name": "s"}, "stringData": {"password": "hush-hush"}}
        await ask("admin", "POST", "/api/v1/namespaces/default/secrets", secret, Audit_Id="secret")
        assert (await found(path, auditID="secret"))["responseStatus"] == {"metadata": {}, "code": 201}
        await ask("nobody-knows-this-token", "GET", "/api", Audit_Id="stranger")
        stranger = await found(path, auditID="stranger")
        assert (stranger["user"], stranger["responseStatus"]["code"]) == ({}, 401)
        text = path.read_text()
        assert "hush-hush" not in text
        assert "nobody-knows-this-token" not in text


async def test_a_watch_has_a_line_when_it_begins_and_one_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with asking(audit=AuditOptions(path)) as ask:
        await ask.must(
            "admin", "POST", f"{RBAC}/clusterrolebindings", binding("b", "ClusterRole", "view", "User:ann")
        )
        headers = {"Authorization": "Bearer ann", "Audit-Id": "stream"}
        response = await ask._session.get(f"{ask.server.url}{PODS}?watch=true", headers=headers)
        assert response.headers["Audit-Id"] == "stream"
        begun = await found(path, auditID="stream", stage="ResponseStarted")
        assert (begun["verb"], begun["responseStatus"]["code"]) == ("watch", 200)
        response.close()
        ended = await found(path, auditID="stream", stage="ResponseComplete")
        assert ended["responseStatus"]["code"] == 200


async def test_every_answer_has_an_id_even_without_a_log() -> None:
    async with asking() as ask:
        for name, path in (("admin", PODS), ("nobody", PODS), ("admin", "/nonsense"), ("", "/healthz")):
            headers = {"Authorization": f"Bearer {name}"} if name else {}
            async with ask._session.get(f"{ask.server.url}{path}", headers=headers) as answer:
                assert len(answer.headers["Audit-Id"]) == 36
        async with ask._session.get(f"{ask.server.url}/healthz", headers={"Audit-Id": "mine"}) as answer:
            assert answer.headers["Audit-Id"] == "mine"


@pytest.mark.parametrize("asked", [None, "", "a b", "x" * 200, "<script>", "-x", "a\x7fb"])
def test_ids_that_are_none_are_replaced(asked: str | None) -> None:
    assert len(audit_id(asked)) == 36


async def test_a_full_disk_stops_nobody() -> None:
    async with asking(audit=AuditOptions(Path("/dev/full"))) as ask:
        for _ in range(3):
            assert (await ask("admin", "GET", PODS))[0] == 200

        async def counted() -> bool:
            headers = {"Authorization": "Bearer admin"}
            async with ask._session.get(f"{ask.server.url}/metrics", headers=headers) as answer:
                return "apiserver_audit_error_total 0\n" not in await answer.text()

        await eventually(counted)
        assert (await ask("admin", "GET", PODS))[0] == 200


async def test_what_is_waiting_is_written_when_the_server_ends(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with asking(audit=AuditOptions(path)) as ask:
        await asyncio.gather(*(ask("admin", "GET", PODS, Audit_Id=f"id-{number}") for number in range(50)))
    assert {f"id-{number}" for number in range(50)} <= {each["auditID"] for each in lines(path)}


class Steps(SystemClock):
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, tzinfo=UTC)

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


def test_a_full_file_is_set_aside_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    stranger = tmp_path / "audit-notes.log"
    stranger.write_text("kept")
    file = AuditFile(AuditOptions(path, max_megabytes=1, backups=2), Steps())
    big = b"x" * (MEGABYTE - 2) + b"\n"
    for _ in range(5):
        file.write(big)
    file.close()
    assert [each.name for each in file.set_aside()] == [
        "audit-2026-01-02T00-00-03.000.log", "audit-2026-01-02T00-00-04.000.log",
    ]  # fmt: skip
    assert path.stat().st_size == len(big)
    assert stranger.read_text() == "kept"


def test_half_a_line_left_by_a_killed_writer_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text('{"a":1}\n{"b"')
    file = AuditFile(AuditOptions(path), Steps())
    file.write(b'{"c":3}\n')
    file.close()
    assert path.read_text().splitlines() == ['{"a":1}', '{"b"', '{"c":3}']


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")
    file = AuditFile(AuditOptions(tmp_path / "audit.log"), Steps())
    with pytest.raises(OSError, match="symbolic"):
        file.write(b"x\n")
    assert not (tmp_path / "elsewhere").exists()


async def test_bytes_that_are_no_text_cost_neither_their_line_nor_the_server(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with asking(audit=AuditOptions(path)) as ask:
        answer = await in_bytes(
            ask, b"GET /api HTTP/1.1", b"User-Agent: tester\xff", b"Authorization: Bearer \xff"
        )
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert (await found(path, requestURI="/api"))["userAgent"] == "tester\ufffd"
        assert not ask.server.task.done()


async def test_a_target_without_a_path_is_not_found() -> None:
    async with asking() as ask:
        assert (await in_bytes(ask, b"CONNECT a:80 HTTP/1.1")).startswith(b"HTTP/1.1 404 ")


async def in_bytes(ask: Client, *lines: bytes) -> bytes:
    """The beginning of the answer to a head that no client would write."""
    host, port = ask.server.server.addresses[0]
    tls = ask.server.admin_config.ssl_context()
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    writer.write(b"".join(line + b"\r\n" for line in (*lines, b"Host: x", b"Connection: close", b"")))
    answer = await reader.read(1000)
    writer.close()
    return answer
