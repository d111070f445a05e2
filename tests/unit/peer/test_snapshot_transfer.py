"""A transfer without a network: what is said, in which order, and what is not believed."""

import itertools
import math
import random
from zlib import crc32

import pytest

from respraft.peer.codec import PeerProtocolError
from respraft.peer.snapshot_transfer import (
    CODEC,
    FILE_BYTES_MAX,
    FILES_MAX,
    WINDOW_BYTES,
    Accept,
    Ack,
    Chunk,
    Decline,
    Done,
    FileSize,
    Offer,
    Read,
    SnapshotReceiver,
    SnapshotSender,
)

CHUNK = 1000
CLOCK = itertools.count()


class Files:
    """Files in memory, to read from and to write to."""

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        self.contents = {name: bytearray(data) for name, data in (contents or {}).items()}
        self.completed: list[str] = []

    def offer(self) -> Offer:
        return Offer(1, 77, 3, 500, [(name, len(data)) for name, data in self.contents.items()])


def some_files(seed: int = 0) -> Files:
    rng = random.Random(seed)
    sizes = {"CURRENT": 16, "000007.sst": 3500, "empty": 0, "000009.sst": 2000, "000011.sst": 1}
    return Files({name: rng.randbytes(size) for name, size in sizes.items()})


def new_sender(files: Files, *, rate: int = 1 << 40) -> SnapshotSender:
    return SnapshotSender(files.offer(), chunk_bytes=CHUNK, bytes_per_second=rate)


def transfer(
    source: Files, sender: SnapshotSender, target: Files, receiver: SnapshotReceiver, *, chunks: int = 1 << 30
) -> None:
    """One connection, which breaks after some chunks. Everything goes through the codec."""
    sender.start()
    sender.on_message(CODEC.decode(CODEC.encode(receiver.accept())))
    for _ in range(chunks):
        read = sender.next_read(float(next(CLOCK)))
        if not isinstance(read, Read):
            break
        data = bytes(source.contents[read.name][read.offset : read.offset + read.size])
        chunk = CODEC.decode(CODEC.encode(sender.chunk(data)))
        write = receiver.on_message(chunk)
        content = target.contents.setdefault(write.name, bytearray())
        assert write.offset == len(content)
        content += write.data
        if write.last:
            target.completed.append(write.name)
        sender.on_message(receiver.written())
    if receiver.complete:
        sender.on_message(Done(2))


def test_everything_arrives() -> None:
    source, target = some_files(), Files()
    sender, receiver = new_sender(source), SnapshotReceiver(2, source.offer())
    transfer(source, sender, target, receiver)
    assert sender.done and receiver.complete
    assert target.contents == {name: data for name, data in source.contents.items() if data}
    assert target.completed == ["CURRENT", "000007.sst", "000009.sst", "000011.sst"]


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_broken_connection_costs_no_more_than_what_was_under_way(chunks: int) -> None:
    """Some chunks a connection; what was written once is never sent again."""
    source, target = some_files(), Files()
    sender, receiver = new_sender(source), SnapshotReceiver(2, source.offer())
    connections = 0
    while not sender.done:
        transfer(source, sender, target, receiver, chunks=chunks)
        connections += 1
    assert connections >= 8 // chunks
    assert target.contents == {name: data for name, data in source.contents.items() if data}


def test_what_was_sent_and_not_written_is_sent_again() -> None:
    source, target = some_files(), Files()
    sender, receiver = new_sender(source), SnapshotReceiver(2, source.offer())
    transfer(source, sender, target, receiver, chunks=2)
    for _ in range(2):  # On their way when the connection broke.
        read = sender.next_read(float(next(CLOCK)))
        assert isinstance(read, Read)
        sender.chunk(bytes(source.contents[read.name][read.offset : read.offset + read.size]))
    transfer(source, sender, target, receiver)
    assert sender.done
    assert target.contents["000007.sst"] == source.contents["000007.sst"]


def test_another_sender_of_the_same_state_goes_on_as_well() -> None:
    source, target = some_files(), Files()
    receiver = SnapshotReceiver(2, source.offer())
    transfer(source, new_sender(source), target, receiver, chunks=3)
    again = new_sender(source)
    transfer(source, again, target, receiver)
    assert again.done


def test_no_more_than_the_window_is_on_its_way() -> None:
    source = Files({"a": bytes(3 * WINDOW_BYTES)})
    sender = SnapshotSender(source.offer(), chunk_bytes=WINDOW_BYTES // 4, bytes_per_second=1 << 40)
    assert sender.next_read(0.0) == math.inf, "not before it was accepted"
    sender.on_message(Accept(2, 0, 0))
    for moment in range(4):
        assert isinstance(sender.next_read(float(moment)), Read)
        sender.chunk(bytes(WINDOW_BYTES // 4))
    assert sender.next_read(9.0) == math.inf
    sender.on_message(Ack(2, WINDOW_BYTES // 4))
    assert isinstance(sender.next_read(9.0), Read)


def test_the_rate_is_kept_and_not_made_up_for() -> None:
    source = Files({"a": bytes(100 * CHUNK)})
    sender = new_sender(source, rate=10 * CHUNK)
    sender.on_message(Accept(2, 0, 0))
    now, sent = 1000.0, 0
    while now < 1002.0:
        read = sender.next_read(now)
        if isinstance(read, Read):
            sender.chunk(bytes(read.size))
            sent += 1
        else:
            now += read
    assert 20 <= sent <= 22
    now += 50.0
    burst = 0
    while isinstance(read := sender.next_read(now), Read):
        sender.chunk(bytes(read.size))
        burst += 1
    assert burst <= 2


def test_a_receiver_may_say_no_at_any_time() -> None:
    for accepted in (False, True):
        sender = new_sender(some_files())
        if accepted:
            sender.on_message(Accept(2, 0, 0))
        sender.on_message(Decline(2, "the disk is full\n\x1b[31m"))
        assert sender.declined == "the disk is full??[31m"


@pytest.mark.parametrize(
    "files",
    [
        [],
        [("../../etc/passwd", 1)],
        [("/etc/passwd", 1)],
        [("..", 1)],
        [(".hidden", 1)],
        [("", 1)],
        [("a/b", 1)],
        [("a\\b", 1)],
        [("a\0b", 1)],
        [("a\n", 1)],
        [("ä", 1)],
        [("a" * 65, 1)],
        [("a", 1), ("a", 1)],
        [("a", -1)],
        [("a", FILE_BYTES_MAX + 1)],
        [(f"{number}", 1) for number in range(FILES_MAX + 1)],
    ],
)
def test_an_offer_that_no_honest_node_makes(files: list[FileSize]) -> None:
    with pytest.raises(PeerProtocolError):
        SnapshotReceiver(2, Offer(1, 7, 3, 5, files))


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(1, 0, crc32(b"xy"), b"xy"),
        Chunk(1, 3, crc32(b"abcde"), b"e"),
        Chunk(1, 2, crc32(b"abcdef") + 1, b"cdef"),
        Chunk(1, 2, crc32(b"cd"), b"cd"),
        Chunk(1, 2, crc32(b"ab"), b""),
        Chunk(1, 2, crc32(b"abcdefghijk"), b"cdefghijk"),
        Chunk(1, -1, crc32(b"a"), b"a"),
        Done(1),
        Offer(1, 7, 3, 5, [("a", 10)]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_chunk_that_is_not_the_next_one(chunk: Chunk) -> None:
    receiver = SnapshotReceiver(2, Offer(1, 7, 3, 5, [("a", 10)]))
    receiver.on_message(Chunk(1, 0, crc32(b"ab"), b"ab"))
    receiver.written()
    with pytest.raises(PeerProtocolError):
        receiver.on_message(chunk)
    assert receiver.on_message(Chunk(1, 2, crc32(b"abc"), b"c")).offset == 2, "and it was not harmed"


@pytest.mark.parametrize(
    "message",
    [
        Ack(2, 0),
        Done(2),
        Offer(2, 7, 3, 5, []),
        Accept(2, 1 << 50, 0),
        Accept(2, -1, 0),
        Chunk(2, 0, 0, b"x"),
    ],
)
def test_an_answer_out_of_turn(message: Ack | Done | Offer | Accept | Chunk) -> None:
    with pytest.raises(PeerProtocolError):
        new_sender(some_files()).on_message(message)


@pytest.mark.parametrize("message", [Ack(2, 1), Ack(2, -1), Done(2), Accept(2, 0, 0)])
def test_an_answer_that_cannot_be_true(message: Ack | Done | Accept) -> None:
    sender = new_sender(some_files())
    sender.on_message(Accept(2, 0, 0))
    with pytest.raises(PeerProtocolError):
        sender.on_message(message)
