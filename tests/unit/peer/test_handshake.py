"""Two state machines talk to each other; no socket is needed to see who is refused, and why."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.peer.codec import HANDSHAKE, MESSAGE, PeerProtocolError, encode_frame
from respraft.peer.handshake import (
    NOT_WELCOME,
    PROTOCOL_VERSION,
    REMOVED,
    WRONG_CLUSTER,
    WRONG_NODE,
    WRONG_SECRET,
    WRONG_VERSION,
    Accepting,
    Dialing,
    Handshake,
    Refusal,
    decode_refused,
    encode_refused,
)
from respraft.peer.interface import Introduction, Objection
from tests.unit.peer.support import introduction

SECRET = b"a long random secret"


def welcome_all(_peer: Introduction) -> Objection | None:
    return None


def dialing(
    own: Introduction | None = None,
    *,
    to: int = 2,
    check: Callable[[Introduction], Objection | None] = welcome_all,
    secret: bytes | None = None,
    nonce: bytes = b"d" * 32,
) -> Dialing:
    return Dialing(own=own or introduction(1), to=to, check=check, nonce=nonce, secret=secret)


def accepting(
    own: Introduction | None = None,
    *,
    check: Callable[[Introduction], Objection | None] = welcome_all,
    secret: bytes | None = None,
    nonce: bytes = b"a" * 32,
) -> Accepting:
    return Accepting(own=own or introduction(2), check=check, nonce=nonce, secret=secret)


def in_one_piece(side: Handshake, data: bytes) -> bytes:
    return side.feed(data)


def byte_by_byte(side: Handshake, data: bytes) -> bytes:
    return b"".join(side.feed(data[i : i + 1]) for i in range(len(data)))


def talk(
    dialer: Dialing, acceptor: Accepting, feed: Callable[[Handshake, bytes], bytes] = in_one_piece
) -> list[bytes]:
    """Carry bytes to and fro until nobody has anything to say; return what was said, in turns."""
    said = [dialer.start()]
    listener: Handshake = acceptor
    while said[-1]:
        said.append(feed(listener, said[-1]))
        listener = dialer if listener is acceptor else acceptor
    return said


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("feed", [in_one_piece, byte_by_byte])
def test_both_sides_learn_who_the_other_is(
    secret: bytes | None, feed: Callable[[Handshake, bytes], bytes]
) -> None:
    one = introduction(1, incarnation=2**64 - 1, start_counter=7, empty=True)
    dialer, acceptor = dialing(one, secret=secret), accepting(secret=secret)
    talk(dialer, acceptor, feed)
    assert acceptor.peer == one
    assert dialer.peer == introduction(2)
    assert dialer.refusal is None and acceptor.refusal is None


def test_the_gatekeepers_are_asked_once_each_with_what_the_peer_says() -> None:
    asked: list[Introduction] = []

    def check(peer: Introduction) -> Objection | None:
        asked.append(peer)
        return None

    talk(dialing(check=check), accepting(check=check))
    assert asked == [introduction(1), introduction(2)]


@pytest.mark.parametrize(
    ("dialer", "acceptor", "code", "text"),
    [
        (dialing(introduction(1, cluster_id="other")), accepting(), WRONG_CLUSTER, "cluster 'other'"),
        (dialing(to=3), accepting(), WRONG_NODE, "node 2 answers where node 3 should be"),
        (dialing(introduction(2)), accepting(), WRONG_NODE, "two nodes say that they are node 2"),
        (dialing(introduction(0)), accepting(), WRONG_NODE, "node 0"),
        (dialing(secret=b"guess"), accepting(secret=SECRET), WRONG_SECRET, "another cluster secret"),
        (dialing(), accepting(secret=SECRET), WRONG_SECRET, "no cluster secret"),
        (dialing(secret=SECRET), accepting(), WRONG_SECRET, "has none"),
        (
            dialing(),
            accepting(check=lambda _: Objection("its disk was lost")),
            NOT_WELCOME,
            "its disk was lost",
        ),
        (dialing(), accepting(check=lambda _: Objection("gone", removed=True)), REMOVED, "gone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_acceptor_refuses_and_the_dialer_gets_to_know_why(
    dialer: Dialing, acceptor: Accepting, code: str, text: str
) -> None:
    talk(dialer, acceptor)
    assert dialer.peer is None and acceptor.peer is None
    refusal = acceptor.refusal
    assert refusal is not None and not refusal.by_peer
    assert refusal.code == code and text in refusal.text
    assert dialer.refusal == Refusal(code, refusal.text, by_peer=True)


def test_the_dialer_refuses_too_and_tells_the_acceptor() -> None:
    dialer, acceptor = dialing(check=lambda _: Objection("its disk was lost")), accepting()
    said = [dialer.start()]
    for side in (acceptor, dialer, acceptor, dialer):
        said.append(side.feed(said[-1]))
    assert dialer.refusal == Refusal(NOT_WELCOME, "its disk was lost", by_peer=False)
    assert acceptor.peer == introduction(1)  # It had welcomed us; the link then brings the refusal.
    assert said[-1] == encode_refused(1, NOT_WELCOME, "its disk was lost")
    assert decode_refused(said[-1][13:]) == Refusal(NOT_WELCOME, "its disk was lost", by_peer=True)


class Lying(Accepting):
    """Says that it is someone else once the dialer has shown what it has."""

    def __init__(self, lie: Introduction) -> None:
        super().__init__(own=introduction(2), check=welcome_all, nonce=b"a" * 32, secret=None)
        self.lie = lie

    def feed(self, data: bytes) -> bytes:
        answer = super().feed(data)
        self.own = self.lie
        return answer


@pytest.mark.parametrize(
    ("lie", "code"),
    [(introduction(3), WRONG_NODE), (introduction(2, cluster_id="other"), WRONG_CLUSTER)],
)
def test_the_dialer_checks_the_welcome(lie: Introduction, code: str) -> None:
    dialer, acceptor = dialing(), Lying(lie)
    answer = acceptor.feed(dialer.start())
    dialer.feed(acceptor.feed(dialer.feed(answer)))
    assert dialer.refusal is not None and dialer.refusal.code == code


def test_an_acceptor_without_the_secret_is_refused() -> None:
    # It takes any proof, as an impostor would, and answers with the digest of a secret of its own.
    dialer, acceptor = dialing(secret=SECRET), accepting(secret=b"another one")
    answer = acceptor.feed(dialer.start())
    dialer.feed(answer)
    impostor_proof = dialing(secret=b"another one")
    impostor_proof.start()
    dialer.feed(acceptor.feed(impostor_proof.feed(answer)))
    assert acceptor.peer is not None
    assert dialer.refusal is not None and dialer.refusal.code == WRONG_SECRET


def test_a_proof_cannot_be_played_back() -> None:
    recorded = talk(dialing(secret=SECRET), accepting(secret=SECRET))
    again = accepting(secret=SECRET, nonce=b"b" * 32)
    again.feed(recorded[0])
    again.feed(recorded[2])
    assert again.peer is None
    assert again.refusal is not None and again.refusal.code == WRONG_SECRET


def test_what_is_said_about_oneself_is_covered_by_the_proof() -> None:
    honest = talk(dialing(secret=SECRET), accepting(secret=SECRET))
    tampered = dialing(introduction(1, incarnation=666), secret=b"whatever")
    acceptor = accepting(secret=SECRET)
    acceptor.feed(tampered.start())
    acceptor.feed(honest[2])
    assert acceptor.refusal is not None and acceptor.refusal.code == WRONG_SECRET


def test_another_version_is_refused_on_both_sides() -> None:
    other = struct.pack("<8sI", b"respraft", PROTOCOL_VERSION + 1)
    acceptor = accepting()
    answer = acceptor.feed(other + b"whatever that version says next")
    assert acceptor.refusal is not None and acceptor.refusal.code == WRONG_VERSION
    assert f"version {PROTOCOL_VERSION + 1}" in acceptor.refusal.text
    assert answer.endswith(encode_refused(2, WRONG_VERSION, acceptor.refusal.text))

    dialer = dialing()
    dialer.feed(other + b"a refusal in words of that version")
    assert dialer.refusal is not None and dialer.refusal.by_peer
    assert dialer.refusal.code == WRONG_VERSION
    assert f"node 2 speaks version {PROTOCOL_VERSION + 1}" in dialer.refusal.text


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", b"\0", b"resprafu...."]
)
@pytest.mark.parametrize("side", [dialing, accepting])
def test_a_stranger_is_told_nothing(garbage: bytes, side: Callable[[], Handshake]) -> None:
    with pytest.raises(PeerProtocolError, match="not a respraft peer"):
        side().feed(garbage)


def test_what_is_out_of_turn_is_refused() -> None:
    hello = dialing().start()
    twice = accepting()
    twice.feed(hello)
    with pytest.raises(PeerProtocolError, match="Hello out of turn"):
        twice.feed(hello[12:])

    recorded = talk(dialing(), accepting())
    with pytest.raises(PeerProtocolError, match="Proof out of turn"):
        accepting().feed(hello[:12] + recorded[2])
    with pytest.raises(PeerProtocolError, match="Welcome out of turn"):
        dialing().feed(hello[:12] + recorded[3])
    with pytest.raises(PeerProtocolError, match="Hello out of turn"):  # Its own words, as from a mirror.
        dialing().feed(hello)
    with pytest.raises(PeerProtocolError, match=f"kind {MESSAGE}"):
        accepting().feed(hello[:12] + encode_frame(MESSAGE, b"too early"))


def test_nothing_may_follow_before_the_welcome() -> None:
    acceptor = accepting()
    recorded = talk(dialing(), accepting())
    acceptor.feed(recorded[0])
    with pytest.raises(PeerProtocolError, match="no place"):
        acceptor.feed(recorded[2] + encode_frame(MESSAGE, b"too early"))


def test_the_text_of_a_refusal_cannot_break_the_log() -> None:
    frame = encode_refused(2, NOT_WELCOME, "one\ntwo\x1b[31m" + "x" * 5000)
    refusal = decode_refused(frame[13:])
    assert refusal.text.startswith("one?two?[31mxxx")
    assert len(refusal.text) <= 1000


def test_only_a_refusal_may_come_late() -> None:
    hello = dialing().start()[12:]
    with pytest.raises(PeerProtocolError, match="Hello out of turn"):
        decode_refused(hello[13:])


@settings(max_examples=300)
@given(st.data())
def test_broken_bytes_make_either_side_raise_nothing_else(data: Any) -> None:
    recorded = talk(dialing(secret=SECRET), accepting(secret=SECRET))
    turn = data.draw(st.integers(0, 3))
    dialer, acceptor = dialing(secret=SECRET), accepting(secret=SECRET)
    sides: list[Handshake] = [acceptor, dialer, acceptor, dialer]
    dialer.start()
    for earlier in range(turn):
        sides[earlier].feed(recorded[earlier])
    broken = bytearray(recorded[turn])
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        sides[turn].feed(bytes(broken))
    except PeerProtocolError:
        return
    assert sides[turn].peer is None or bytes(broken) == recorded[turn]


@settings(max_examples=300)
@given(st.binary(max_size=100))
def test_a_valid_frame_with_garbage_inside_is_refused(body: bytes) -> None:
    acceptor = accepting()
    prologue = dialing().start()[:12]
    try:
        acceptor.feed(prologue + encode_frame(HANDSHAKE, body))
    except PeerProtocolError:
        return
    assert acceptor.peer is None
