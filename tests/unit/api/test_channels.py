"""The channel protocols of exec, attach and port-forward."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.api import channels
from nodeport.api.channels import Channel, ChannelError, ChannelMessage, ChannelProtocol


@pytest.mark.parametrize(
    ("protocol", "message", "payload"),
    [
        (channels.V5, ChannelMessage(Channel.STDIN, b"ab"), b"\x00ab"),
        (channels.V5, ChannelMessage(Channel.STDIN, closes=True), b"\xff\x00"),
        (channels.V4, ChannelMessage(Channel.ERROR, b"{}"), b"\x03{}"),
        (channels.V1_BASE64, ChannelMessage(Channel.STDOUT, b"ab"), b"1YWI="),
        (channels.V4_BASE64, ChannelMessage(Channel.RESIZE, b""), b"4"),
    ],
)
def test_messages_have_the_bytes_of_their_protocol(
    protocol: ChannelProtocol, message: ChannelMessage, payload: bytes
) -> None:
    assert protocol.encode(message) == payload
    assert protocol.decode(payload) == message


def test_a_close_is_said_by_version_5_alone() -> None:
    for protocol in channels.REMOTE_COMMAND[1:]:
        assert protocol.encode(ChannelMessage(Channel.STDIN, closes=True)) == b""
    assert channels.V4.decode(b"\xff\x00") == ChannelMessage(255, b"\x00")


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xff\x00\x01"])
def test_a_broken_binary_message_is_an_error(payload: bytes) -> None:
    with pytest.raises(ChannelError):
        channels.V5.decode(payload)


@given(st.sampled_from(channels.REMOTE_COMMAND), st.binary(max_size=200))
def test_noise_is_a_message_or_an_error(protocol: ChannelProtocol, payload: bytes) -> None:
    try:
        found = protocol.decode(payload)
    except ChannelError:
        return
    assert isinstance(found.channel, int)


@given(st.sampled_from(channels.REMOTE_COMMAND), st.integers(0, 9), st.binary(max_size=200))
def test_what_is_encoded_is_decoded(protocol: ChannelProtocol, channel: int, data: bytes) -> None:
    message = ChannelMessage(channel, data)
    assert protocol.decode(protocol.encode(message)) == message


def test_the_clients_first_known_protocol_is_chosen() -> None:
    known = channels.REMOTE_COMMAND
    assert (
        channels.choose(["v9.channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"], known) is channels.V4
    )
    assert channels.choose([], known) is channels.UNNAMED
    assert channels.choose(["chat"], known) is None


def test_an_exit_code_is_told_as_a_cause() -> None:
    assert channels.exit_status(["true"], 0) == {"metadata": {}, "status": "Success"}
    status = channels.exit_status(["sh", "-c", "exit 7"], 7)
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert status["message"].startswith("command terminated with non-zero exit code: ")


@pytest.mark.parametrize(
    ("pieces", "sizes"),
    [
        ([b'{"Width":80,"Height":24}'], [(80, 24)]),
        ([b'{"Width":81,"Height":25}\n{"Width":80,"Height":24}\n'], [(81, 25), (80, 24)]),
        ([b'{"Width":8', b'0,"Height"', b":24}\n"], [(80, 24)]),
        ([b'{"Width":0,"Height":24}{"Width":80}[] 1 {"Width":"x","Height":true}'], []),
        ([b'{"Width":99999,"Height":1}', b'{"Width":1,"Height":1}'], [(1, 1)]),
        ([b"\xff" * 2000, b'{"Width":80,"Height":24}'], [(80, 24)]),
        ([b"[" * 5000], []),
    ],
)
def test_a_terminals_sizes_are_read_however_they_are_cut(
    pieces: list[bytes], sizes: list[tuple[int, int]]
) -> None:
    reader = channels.TerminalSizes()
    assert [size for piece in pieces for size in reader.feed(piece)] == sizes
