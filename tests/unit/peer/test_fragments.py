"""Small messages go first, classes keep their order, and large ones come out whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.peer.codec import FRAGMENT, MESSAGE, Buffer, FrameReader, PeerProtocolError
from respraft.peer.fragments import SMALL_BYTES_MAX, Reassembly, SendQueue

FRAGMENT_BYTES = 64 << 10
SMALL = b"s"
BULK = b"b" * (SMALL_BYTES_MAX + 1)
LONG = b"".join(b"%07d " % number for number in range(5 * FRAGMENT_BYTES // 16))  # Two and a half fragments.


class Vote:
    """A class of messages."""


class Append:
    """Another one."""


def queue(bytes_max: int = 64 << 20) -> SendQueue:
    return SendQueue(fragment_bytes=FRAGMENT_BYTES, bytes_max=bytes_max)


class Wire:
    """What the other side makes of the parts that were taken."""

    def __init__(self) -> None:
        self.reader = FrameReader(1 << 20)
        self.reassembly = Reassembly(64 << 20)

    def receive(self, parts: list[Buffer]) -> list[bytes]:
        bodies = []
        for kind, _group, body in self.reader.feed(b"".join(parts)):
            if kind == FRAGMENT:
                whole = self.reassembly.add(body)
                bodies += [] if whole is None else [bytes(whole)]
            else:
                assert kind == MESSAGE
                bodies.append(bytes(body))
        return bodies


def take_all(sender: SendQueue, wire: Wire) -> list[bytes]:
    bodies = []
    while sender.bytes:
        bodies += wire.receive(sender.take())
    assert sender.take() == []
    return bodies


def test_small_messages_leave_as_one_piece() -> None:
    sender = queue()
    bodies = [b"message %d" % number for number in range(10)]
    for body in bodies:
        assert sender.put(Vote, body)
    parts = sender.take()
    assert len(parts) == 1
    assert Wire().receive(parts) == bodies
    assert sender.bytes == 0


def test_a_small_message_overtakes_a_long_one_between_its_fragments() -> None:
    sender, wire = queue(), Wire()
    sender.put(Append, LONG)
    assert wire.receive(sender.take()) == []
    sender.put(Vote, b"first")
    assert wire.receive(sender.take()) == [b"first"]
    sender.put(Vote, b"second")
    assert wire.receive(sender.take()) == [b"second", LONG]


def test_what_is_taken_at_a_time_is_bounded_by_a_fragment() -> None:
    sender = queue()
    for _ in range(20):
        sender.put(Append, BULK)
    sender.put(Append, LONG)
    while sender.bytes:
        assert sum(map(len, sender.take())) <= FRAGMENT_BYTES + 200


def test_bulk_messages_share_a_write_while_they_fit() -> None:
    sender = queue()
    for _ in range(4):
        sender.put(Append, BULK)
    assert len(Wire().receive(sender.take())) == FRAGMENT_BYTES // len(BULK) == 3
    assert sender.bytes == len(BULK)


def test_a_small_message_never_overtakes_one_of_its_own_class() -> None:
    sender, wire = queue(), Wire()
    sender.put(Append, LONG)
    sender.put(Append, b"behind it")
    sender.put(Vote, b"overtakes")
    assert take_all(sender, wire) == [b"overtakes", LONG, b"behind it"]
    # Once the long one is gone, the class is as quick as any other.
    sender.put(Append, BULK)
    sender.put(Vote, b"vote")
    assert wire.receive(sender.take()) == [b"vote", BULK]
    sender.put(Append, b"small again")
    sender.put(Vote, b"vote")
    assert wire.receive(sender.take()) == [b"small again", b"vote"]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([Vote, Append]), st.integers(1, 3 * FRAGMENT_BYTES)), max_size=12))
def test_each_class_arrives_whole_and_in_order(sizes: list[tuple[type, int]]) -> None:
    sender = queue()
    sent: dict[bytes, list[bytes]] = {b"Vote": [], b"Append": []}
    for number, (message_class, size) in enumerate(sizes):
        name = message_class.__name__.encode()
        body = b"%s %d " % (name, number) + bytes(size)
        sent[name].append(body)
        assert sender.put(message_class, body)
    received = take_all(sender, Wire())
    for name, bodies in sent.items():
        assert [body for body in received if body.startswith(name)] == bodies


def test_no_frame_is_longer_than_a_fragment_however_short_those_are() -> None:
    sender = SendQueue(fragment_bytes=1024, bytes_max=1 << 20)
    wire = Wire()
    wire.reader = FrameReader(2048)
    bodies = [b"a" * 1024, b"b" * 1025, b"c" * 10_000]
    for body in bodies:
        sender.put(Append, body)
    assert take_all(sender, wire) == bodies


def test_a_full_queue_refuses_and_stays_as_it_is() -> None:
    sender = queue(bytes_max=100)
    assert sender.put(Vote, b"x" * 60)
    assert not sender.put(Vote, b"y" * 41)
    assert sender.put(Vote, b"z" * 40)
    assert sender.bytes == 100
    assert Wire().receive(sender.take()) == [b"x" * 60, b"z" * 40]
    assert sender.bytes == 0


def test_one_message_over_the_bound_still_passes_alone() -> None:
    sender = queue(bytes_max=100)
    assert sender.put(Append, LONG)
    assert not sender.put(Vote, SMALL)
    assert take_all(sender, Wire()) == [LONG]


def fragment(number: int, last: int, piece: bytes) -> memoryview:
    return memoryview(number.to_bytes(4, "little") + bytes([last]) + piece)


def test_messages_are_put_together_one_after_the_other() -> None:
    reassembly = Reassembly(100)
    assert reassembly.add(fragment(1, 0, b"one ")) is None
    assert bytes(reassembly.add(fragment(1, 1, b"whole")) or b"") == b"one whole"
    assert bytes(reassembly.add(fragment(2, 1, b"two")) or b"") == b"two"


@pytest.mark.parametrize(
    ("before", "broken"),
    [
        ([], fragment(2, 0, b"x")),  # The first one is missing.
        ([fragment(1, 0, b"x")], fragment(2, 0, b"x")),  # The end of the first one is missing.
        ([fragment(1, 1, b"x")], fragment(1, 1, b"x")),  # Repeated.
        ([], fragment(1, 0, b"")),  # Nothing in it: such could go on for ever.
        ([], memoryview(b"123")),  # Too short to be one.
        ([], fragment(1, 0, b"x" * 101)),  # Too long.
        ([fragment(1, 0, b"x" * 60)], fragment(1, 1, b"x" * 41)),  # Too long together.
    ],
)
def test_fragments_that_do_not_fit_are_refused(before: list[memoryview], broken: memoryview) -> None:
    reassembly = Reassembly(100)
    for body in before:
        reassembly.add(body)
    with pytest.raises(PeerProtocolError):
        reassembly.add(broken)
