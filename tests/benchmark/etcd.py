"""A load generator for etcd 3: Put and Range over gRPC, as etcd's own clients send them.

etcd's HTTP/JSON gateway would be simpler to drive, but it translates inside the server process and so bills
etcd for work that its usual clients do not cause. gRPC is little more than HTTP/2 with a five-byte prefix,
and a generator needs little of HTTP/2: each request has the same header block, and a reply is over at the
frame that ends its stream. This costs about a tenth of what etcd spends on the same request, so one process
drives three nodes without being what bounds them.

Left out, because nothing here needs it: decoding header blocks (a reply without a message is an error), and
flow control for requests larger than the initial windows of 64 KiB.

A "pipeline" of P is P streams open at a time on a connection; gRPC has no other.

`python -m tests.benchmark.etcd --port 2379 --clients 50` prints one JSON line; `--fill` writes every key.
"""

import argparse
import random
import struct
import time
from typing import Final

from tests.benchmark.generator import Connection, Run, generate, options_parser

# Frame types and flags, RFC 9113 section 6.
DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4

FRAME_HEADER_BYTES: Final = 9
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW_BYTES: Final = (1 << 31) - 1 - 65_535
"""Added to the connection's receive window once, so that replies never have to be credited."""

_FILL_KEYS: Final = 100
"""Keys per transaction of a fill; etcd takes at most 128 operations."""

_METHODS: Final = {"SET": "Put", "GET": "Range", "FILL": "Txn"}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Encode one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(path: str, authority: str) -> bytes:
    """Encode the headers of a gRPC request: HPACK without Huffman codes and without the dynamic table."""
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http; both whole entries of the static table.
            b"\x04" + _string(path.encode()),
            b"\x01" + _string(authority.encode()),
            b"\x0f\x10" + _string(b"application/grpc"),  # content-type, entry 31.
            b"\x00" + _string(b"te") + _string(b"trailers"),
        )
    )


def field(number: int, value: bytes) -> bytes:
    """Encode one length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def put_request(key: bytes, value: bytes) -> bytes:
    """Encode etcdserverpb.PutRequest."""
    return field(1, key) + field(2, value)


def range_request(key: bytes) -> bytes:
    """Encode etcdserverpb.RangeRequest: linearizable, which is its default."""
    return field(1, key)


def txn_request(puts: list[bytes]) -> bytes:
    """Encode etcdserverpb.TxnRequest: no condition, all of `puts`."""
    return b"".join(field(2, field(2, put)) for put in puts)


class EtcdConnection(Connection):
    """One client of an etcd node: an HTTP/2 connection with `pipeline` streams open at a time."""

    def __init__(self, run: Run, options: argparse.Namespace) -> None:
        super().__init__(run, options)
        method = _METHODS[options.command]
        authority = f"{options.host}:{options.port}"
        self._headers = header_block(f"/etcdserverpb.KV/{method}", authority)
        self._random = random.Random()
        self._value = b"x" * options.value_bytes
        self._buffer = bytearray()
        self._next_stream = 1
        self._next_fill = 0
        self._open: dict[int, tuple[float, int]] = {}  # Stream: when it was sent, bytes of its reply.

    def begin(self) -> None:
        start = _PREFACE + frame(SETTINGS, 0, 0)
        self.transport.write(start + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW_BYTES)))
        for _ in range(self.run.take(self.options.pipeline)):
            self._send()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        position = 0
        while position + FRAME_HEADER_BYTES <= len(buffer):
            length = int.from_bytes(buffer[position : position + 3], "big")
            end = position + FRAME_HEADER_BYTES + length
            if end > len(buffer):
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            stream = int.from_bytes(buffer[position + 5 : position + 9], "big")
            self._on_frame(kind, flags, stream, bytes(buffer[position + FRAME_HEADER_BYTES : end]))
            position = end
        del buffer[:position]

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            sent_at, received = self._open[stream]
            self._open[stream] = (sent_at, received + len(payload))
        elif kind == HEADERS and flags & END_STREAM:
            self._on_end(stream)
        elif kind == SETTINGS and not flags & ACK:
            self.transport.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.transport.write(frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY):
            self.run.fail(f"etcd ended a stream: frame {kind}, {payload!r}")

    def _on_end(self, stream: int) -> None:
        sent_at, received = self._open.pop(stream)
        least = self.options.value_bytes if self.options.command == "GET" else 1
        if received < least:
            # An error has trailers only; a Range that found nothing has a header only.
            self.run.fail(f"{self.options.command} was answered with {received} bytes")
            return
        self.run.complete(1, time.perf_counter() - sent_at)
        if self.run.take(1):
            self._send()

    def _send(self) -> None:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        message = self._message()
        payload = b"\0" + struct.pack(">I", len(message)) + message
        self._open[stream] = (time.perf_counter(), 0)
        self.transport.write(
            frame(HEADERS, END_HEADERS, stream, self._headers) + frame(DATA, END_STREAM, stream, payload)
        )

    def _message(self) -> bytes:
        options = self.options
        if options.command == "FILL":
            first, self._next_fill = self._next_fill, self._next_fill + _FILL_KEYS
            keys = range(first, min(self._next_fill, options.keys))
            return txn_request([put_request(b"key:%012d" % key, self._value) for key in keys])
        key = b"key:%012d" % int(self._random.random() * options.keys)
        return put_request(key, self._value) if options.command == "SET" else range_request(key)


def main() -> None:
    """Send the load that the command line describes."""
    parser = options_parser(__doc__)
    parser.add_argument("--fill", action="store_true", help="write every key once, over one connection")
    options = parser.parse_args()
    if options.fill:
        options.command, options.clients, options.pipeline = "FILL", 1, 1
        options.requests = -(-options.keys // _FILL_KEYS)
    generate(options, EtcdConnection)


def _string(value: bytes) -> bytes:
    assert len(value) < 127, "longer HPACK strings need a longer length"
    return bytes((len(value),)) + value


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


if __name__ == "__main__":
    main()
