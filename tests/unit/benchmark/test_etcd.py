"""The etcd load generator's HTTP/2 and gRPC, against bytes written down from the specifications."""

import argparse
import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from tests.benchmark import etcd
from tests.benchmark.generator import LoadFailed, Run

PUT_RESPONSE = b"\0\0\0\0\x04\x0a\x02\x10\x01"


class RecordingTransport:
    """Keeps what was written; the part of a transport that a generator uses."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data


def with_connection(scenario: Callable[[etcd.EtcdConnection, RecordingTransport, Run], None]) -> Run:
    """Run `scenario` on a connection that has sent the only request of its run, stream 1."""

    async def run_it() -> Run:
        run = Run(1, asyncio.get_running_loop().create_future())
        options = argparse.Namespace(
            command="SET", host="127.0.0.1", port=2379, pipeline=1, value_bytes=3, keys=1
        )
        connection, transport = etcd.EtcdConnection(run, options), RecordingTransport()
        connection.connection_made(cast(asyncio.BaseTransport, transport))
        connection.begin()
        scenario(connection, transport, run)
        return run

    return asyncio.run(run_it())


def reply(stream: int) -> bytes:
    """Headers, message and trailers, as etcd sends them."""
    return (
        etcd.frame(etcd.HEADERS, etcd.END_HEADERS, stream, b"\x88")
        + etcd.frame(etcd.DATA, 0, stream, PUT_RESPONSE)
        + etcd.frame(etcd.HEADERS, etcd.END_HEADERS | etcd.END_STREAM, stream, b"\x40")
    )


def test_a_frame_has_a_nine_byte_header() -> None:
    assert etcd.frame(etcd.PING, etcd.ACK, 0, b"12345678") == b"\0\0\x08\x06\x01\0\0\0\0" + b"12345678"


def test_requests_are_protobuf() -> None:
    assert etcd.put_request(b"k", b"v" * 200) == b"\x0a\x01k\x12\xc8\x01" + b"v" * 200
    assert etcd.range_request(b"key") == b"\x0a\x03key"
    assert etcd.txn_request([b"P"]) == b"\x12\x03\x12\x01P"


def test_headers_use_the_static_table_and_plain_literals() -> None:
    block = etcd.header_block("/a.B/C", "h:1")
    assert block.startswith(b"\x83\x86\x04\x06/a.B/C\x01\x03h:1\x0f\x10\x10application/grpc")


def test_a_reply_counts_wherever_its_bytes_are_split() -> None:
    data = reply(1)
    for position in range(len(data)):

        def scenario(
            connection: etcd.EtcdConnection, _: RecordingTransport, run: Run, cut: int = position
        ) -> None:
            connection.data_received(data[:cut])
            assert not run.completed
            connection.data_received(data[cut:])

        assert with_connection(scenario).completed == 1


def test_settings_and_pings_are_acknowledged() -> None:
    def scenario(connection: etcd.EtcdConnection, transport: RecordingTransport, _: Run) -> None:
        transport.written.clear()
        connection.data_received(etcd.frame(etcd.SETTINGS, 0, 0, b"\0\5\0\0\x40\0"))
        connection.data_received(etcd.frame(etcd.PING, 0, 0, b"abcdefgh"))
        connection.data_received(etcd.frame(etcd.SETTINGS, etcd.ACK, 0))
        assert bytes(transport.written) == etcd.frame(etcd.SETTINGS, etcd.ACK, 0) + etcd.frame(
            etcd.PING, etcd.ACK, 0, b"abcdefgh"
        )

    with_connection(scenario)


@pytest.mark.parametrize(
    "frame",
    [
        # Trailers only: a gRPC error.
        etcd.frame(etcd.HEADERS, etcd.END_HEADERS | etcd.END_STREAM, 1, b"\x88"),
        etcd.frame(etcd.RST_STREAM, 0, 1, b"\0\0\0\2"),
        etcd.frame(etcd.GOAWAY, 0, 0, b"\0" * 8),
    ],
)
def test_an_error_ends_the_run(frame: bytes) -> None:
    def scenario(connection: etcd.EtcdConnection, _: RecordingTransport, run: Run) -> None:
        connection.data_received(frame)
        assert isinstance(run.finished.exception(), LoadFailed)

    with_connection(scenario)
