"""A server that hangs up before TLS begins leaves no socket open."""

from __future__ import annotations

import gc
import socket
import struct

import pytest

from nodeport.client.config import ClientConfig

AT_ONCE = struct.pack("ii", 1, 0)


def test_a_connection_that_is_reset_before_the_handshake_is_closed() -> None:
    context = ClientConfig("https://127.0.0.1").ssl_context()
    assert context is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        peer.close()
        with pytest.raises(OSError, match="reset"), client:
            context.wrap_socket(client, server_hostname="127.0.0.1")
    gc.collect()  # a socket that was forgotten warns, and a warning fails the test
