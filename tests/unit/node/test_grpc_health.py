from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from nodeport.node.grpchealth import Checked, HealthCall, framed, request_message, serving_status
from nodeport.node.prober import grpc_result
from nodeport.node.probes import Outcome, ProbeResult


def ask(
    service: str, status: str, message: bytes = b"", **trailers: str
) -> tuple[dict[str, str], bytes, Checked]:
    """What a real HTTP/2 server was asked, and what the call makes of its answer."""
    call, server = (
        HealthCall("10.0.0.1:5000", service, "probe"),
        H2Connection(H2Configuration(client_side=False, header_encoding="utf-8")),
    )
    server.initiate_connection()
    headers, body = {}, b""
    sent = call.opening
    while call.result is None:
        for event in server.receive_data(sent):
            match event:
                case RequestReceived():
                    headers = {str(name): str(value) for name, value in event.headers or ()}
                case DataReceived():
                    body += event.data or b""
                case StreamEnded():
                    answer(server, event.stream_id, status, message, trailers)
        sent = call.receive(server.data_to_send())
    return headers, body, call.result


def answer(server: H2Connection, stream: int, status: str, message: bytes, trailers: dict[str, str]) -> None:
    if status != "200":
        server.send_headers(stream, [(":status", status)], end_stream=True)
        return
    server.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    server.send_data(stream, framed(message))
    server.send_headers(
        stream, [(name.replace("_", "-"), text) for name, text in trailers.items()], end_stream=True
    )


def test_a_service_is_asked_for_by_its_name() -> None:
    headers, body, result = ask("liveness", "200", b"\x08\x01", grpc_status="0")
    assert (headers[":method"], headers[":path"]) == ("POST", "/grpc.health.v1.Health/Check")
    assert (headers["content-type"], headers["te"], headers[":authority"]) == (
        "application/grpc",
        "trailers",
        "10.0.0.1:5000",
    )
    assert body == b"\0\0\0\0\x0a\x0a\x08liveness"
    assert result == Checked(0, "", 1)


def test_the_whole_server_is_asked_for_by_an_empty_message() -> None:
    assert request_message("") == b""
    assert request_message("s" * 200)[:3] == b"\x0a\xc8\x01"
    assert serving_status(b"") == 0


@pytest.mark.parametrize(
    ("answered", "outcome", "said"),
    [
        (("200", b"\x08\x01", "0", ""), Outcome.SUCCESS, "service healthy"),
        (("200", b"\x08\x02", "0", ""), Outcome.FAILURE, 'service unhealthy (responded with "NOT_SERVING")'),
        (("200", b"", "0", ""), Outcome.FAILURE, 'service unhealthy (responded with "UNKNOWN")'),
        (("200", b"", "5", "unknown%20service"), Outcome.FAILURE,
         "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
        (("200", b"", "12", "no"), Outcome.FAILURE,
         "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no"),
        (("503", b"", "", ""), Outcome.FAILURE,
         "error: health rpc probe failed: rpc error: code = Unknown desc = unexpected HTTP status code received from"
         " server: 503"),
    ],
)  # fmt: skip
def test_answers_are_told_as_a_kubelet_tells_them(
    answered: tuple[str, bytes, str, str], outcome: Outcome, said: str
) -> None:
    status, message, code, words = answered
    result = ask("", status, message, grpc_status=code, grpc_message=words)[2]
    assert grpc_result(result) == ProbeResult(outcome, said)


def test_a_connection_that_closes_early_is_unavailable() -> None:
    call = HealthCall("a", "", "probe")
    call.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64))
    call.receive(b"")
    assert call.result is not None
    assert call.result.code_name == "Unavailable"
