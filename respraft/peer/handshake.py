"""The handshake that opens every link: who is there, and may we talk?

    dialer                                  acceptor
      "respraft" version u32
      Hello(introduction, to, nonce)   -->
                                       <--  "respraft" version u32
                                            Challenge(nonce)        or Refused(code, text)
      Proof(digest)                    -->
                                       <--  Welcome(introduction, digest)   or Refused
      messages ...  (or Refused)       -->

The two prologues are raw bytes and will stay as they are in every version; the rest are HANDSHAKE frames
(`codec.py`). Either side refuses another protocol version, another cluster id, a node id that is not the
expected one, a wrong secret, and whatever its `Gatekeeper` objects to, in this order. A refusal carries a
code word and a text for the operator, so that the side that was refused can log why. What does not begin
with the prologue is not answered at all.

**The secret.** With a cluster secret each side proves that it has it:

    HMAC-SHA256(secret, role | Hello | Challenge | for the acceptor: its introduction)

over the encoded messages, compared in constant time. `role` keeps one side's digest from being played
back as the other's. The dialer proves first, so that a stranger who connects gets no digest to guess on;
a digest is not slow to compute, so the secret should be long and random. Without a secret both digests
are empty. This tells who opened the link; it does not encrypt or sign what follows, so it does not keep
out someone who can rewrite traffic on its way.

This module does no I/O and has no randomness: nonces come in through the constructors. Bytes of the peer
end in a result or in a `PeerProtocolError`.
"""

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from respraft.peer.codec import HANDSHAKE, Buffer, Codec, FrameReader, PeerProtocolError, encode_frame
from respraft.peer.interface import Introduction, Objection
from respraft.raft.message import NOBODY, NodeId

PROTOCOL_VERSION: Final = 1
MAGIC: Final = b"respraft"
NONCE_BYTES: Final = 32
HANDSHAKE_FRAME_BYTES_MAX: Final = 4096
"""A stranger can make us hold no more than this."""

# Code words of refusals. Stable, for programs; the text is for people.
WRONG_VERSION: Final = "VERSION"
WRONG_CLUSTER: Final = "CLUSTER"
WRONG_NODE: Final = "NODE"
WRONG_SECRET: Final = "SECRET"
NOT_WELCOME: Final = "GATE"
REMOVED: Final = "REMOVED"

# What a connection is for; its dialer says so.
FOR_MESSAGES: Final = 0
FOR_SNAPSHOT: Final = 1
FOR_A_LOOK: Final = 2
"""It ends when the handshake is complete (`look.py`)."""

_PROLOGUE: Final = struct.Struct("<8sI")
_OUR_PROLOGUE: Final = _PROLOGUE.pack(MAGIC, PROTOCOL_VERSION)
_TEXT_CHARACTERS_MAX: Final = 1000

_DIALER: Final = b"respraft peer dialer\0"
_ACCEPTOR: Final = b"respraft peer acceptor\0"


class Hello(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """Dialer to acceptor: this is me, and I expect you to be `to`."""

    introduction: Introduction
    to: NodeId
    nonce: bytes
    purpose: int = FOR_MESSAGES

    @property
    def sender(self) -> NodeId:
        """The node that dials."""
        return self.introduction.node_id


class Challenge(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """Acceptor to dialer: show that you know the secret."""

    sender: NodeId
    nonce: bytes


class Proof(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """Dialer to acceptor: here it is."""

    sender: NodeId
    digest: bytes  # b"" without a secret.


class Welcome(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """Acceptor to dialer: this is me, I know the secret too; talk."""

    introduction: Introduction
    digest: bytes  # b"" without a secret.

    @property
    def sender(self) -> NodeId:
        """The node that was dialled."""
        return self.introduction.node_id


class Refused(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """Either way: no, and here is why. The sender closes the link behind it."""

    sender: NodeId
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a handshake, or a link after it, ended instead of standing."""

    code: str
    text: str
    by_peer: bool
    """The peer refused us; else we refused it."""


_CODEC: Final[Codec[Hello | Challenge | Proof | Welcome | Refused]] = Codec(
    Hello | Challenge | Proof | Welcome | Refused
)


class Handshake:
    """What both sides have in common. Write what `start` and `feed` return, and look at the results."""

    def __init__(
        self,
        *,
        own: Introduction,
        check: Callable[[Introduction], Objection | None],
        nonce: bytes,
        secret: bytes | None,
    ) -> None:
        """Begin with nothing sent or received.

        Args:
            own: What this node says about itself.
            check: The gatekeeper's; asked when everything else is right.
            nonce: NONCE_BYTES random bytes, used for this handshake alone.
            secret: The cluster secret; None when the cluster has none.
        """
        assert len(nonce) == NONCE_BYTES
        assert secret is None or secret, "an empty secret protects nothing"
        self.peer: Introduction | None = None
        """Set once the handshake has succeeded."""
        self.refusal: Refusal | None = None
        """Set once it has failed for a reason that was told."""
        self.purpose = FOR_MESSAGES
        """What the connection is for."""
        self.own = own
        """What this side says of itself."""
        self._check = check
        self._nonce = nonce
        self._secret = secret
        self._prologue = b""
        self._reader = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)

    def start(self) -> bytes:
        """Return what to send before anything was received."""
        return b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the peer; return the answer to send, empty if none is due.

        Raises:
            PeerProtocolError: It is no respraft peer, or it says what is not its turn to say.
        """
        if len(self._prologue) < _PROLOGUE.size:
            missing = _PROLOGUE.size - len(self._prologue)
            self._prologue += data[:missing]
            data = data[missing:]
            magic = self._prologue[: len(MAGIC)]
            if not MAGIC.startswith(magic):
                raise PeerProtocolError(f"not a respraft peer: it begins with {magic!r}")
            if len(self._prologue) < _PROLOGUE.size:
                return b""
            version = _PROLOGUE.unpack(self._prologue)[1]
            if version != PROTOCOL_VERSION:
                return self._on_other_version(version)
        answer = b""
        for kind, _group, body in self._reader.feed(data):
            if kind != HANDSHAKE or self.peer is not None or self.refusal is not None:
                raise PeerProtocolError(f"a frame of kind {kind}, which has no place in the handshake")
            answer += self._on_frame(bytes(body))
        return answer

    def _on_other_version(self, version: int) -> bytes:
        raise NotImplementedError

    def _on_frame(self, body: bytes) -> bytes:
        raise NotImplementedError

    def _refuse(self, code: str, text: str) -> bytes:
        self.refusal = Refusal(code, text, by_peer=False)
        return encode_refused(self.own.node_id, code, text)

    def _cluster_text(self, peer: Introduction) -> str | None:
        if peer.cluster_id == self.own.cluster_id:
            return None
        return (
            f"node {peer.node_id} belongs to cluster {peer.cluster_id!r}, node {self.own.node_id} to "
            f"cluster {self.own.cluster_id!r}: check cluster.id and the addresses in cluster.members"
        )

    def _digest(self, role: bytes, *messages: bytes) -> bytes:
        # MessagePack values end where they end, so joining them leaves no room for another reading.
        if self._secret is None:
            return b""
        return hmac.digest(self._secret, role + b"".join(messages), "sha256")

    def _secret_text(self, peer: NodeId, digest: bytes, expected: bytes) -> str | None:
        if hmac.compare_digest(digest, expected):
            return None
        if self._secret is None:
            own = self.own.node_id
            return f"node {peer} has a cluster secret and node {own} has none: give all the same"
        wrong = "another cluster secret than" if digest else "no cluster secret, unlike"
        return f"node {peer} has {wrong} node {self.own.node_id}: give all the same"


class Dialing(Handshake):
    """The dialer's side."""

    def __init__(
        self,
        *,
        own: Introduction,
        to: NodeId,
        check: Callable[[Introduction], Objection | None],
        nonce: bytes,
        secret: bytes | None,
        purpose: int = FOR_MESSAGES,
    ) -> None:
        """Begin to dial node `to`; the rest as in `Handshake`."""
        super().__init__(own=own, check=check, nonce=nonce, secret=secret)
        self.purpose = purpose
        self._to = to
        self._hello = _CODEC.encode(Hello(introduction=own, to=to, nonce=nonce, purpose=purpose))
        self._challenge = b""

    def start(self) -> bytes:
        """Return the prologue and the Hello."""
        return _OUR_PROLOGUE + encode_frame(HANDSHAKE, self._hello)

    def _on_other_version(self, version: int) -> bytes:
        # The acceptor has refused our prologue already, in words of its own version.
        text = (
            f"node {self._to} speaks version {version} of the peer protocol, node {self.own.node_id} "
            f"version {PROTOCOL_VERSION}: run releases that agree on it"
        )
        self.refusal = Refusal(WRONG_VERSION, text, by_peer=True)
        return b""

    def _on_frame(self, body: bytes) -> bytes:
        message = _CODEC.decode(body)
        if isinstance(message, Refused):
            self.refusal = _refusal_of(message)
            return b""
        if isinstance(message, Challenge) and not self._challenge:
            self._challenge = body
            digest = self._digest(_DIALER, self._hello, body)
            return _frame(Proof(sender=self.own.node_id, digest=digest))
        if isinstance(message, Welcome) and self._challenge:
            return self._on_welcome(message)
        raise PeerProtocolError(f"{type(message).__name__} out of turn")

    def _on_welcome(self, welcome: Welcome) -> bytes:
        peer = welcome.introduction
        if text := self._cluster_text(peer):
            return self._refuse(WRONG_CLUSTER, text)
        if peer.node_id != self._to:
            text = f"node {peer.node_id} answers where node {self._to} should be: check cluster.members"
            return self._refuse(WRONG_NODE, text)
        expected = self._digest(_ACCEPTOR, self._hello, self._challenge, msgspec.msgpack.encode(peer))
        if text := self._secret_text(peer.node_id, welcome.digest, expected):
            return self._refuse(WRONG_SECRET, text)
        if objection := self._check(peer):
            return self._refuse(code_of(objection), objection.text)
        self.peer = peer
        return b""


class Accepting(Handshake):
    """The acceptor's side."""

    def __init__(
        self,
        *,
        own: Introduction,
        check: Callable[[Introduction], Objection | None],
        nonce: bytes,
        secret: bytes | None,
    ) -> None:
        """Begin to accept; parameters as in `Handshake`."""
        super().__init__(own=own, check=check, nonce=nonce, secret=secret)
        self._hello = b""
        self._claimed: Introduction | None = None  # From the Hello; not proven yet.
        self._challenge = _CODEC.encode(Challenge(sender=own.node_id, nonce=nonce))

    def _on_other_version(self, version: int) -> bytes:
        text = (
            f"a node speaks version {version} of the peer protocol, node {self.own.node_id} "
            f"version {PROTOCOL_VERSION}: run releases that agree on it"
        )
        return _OUR_PROLOGUE + self._refuse(WRONG_VERSION, text)

    def _on_frame(self, body: bytes) -> bytes:
        message = _CODEC.decode(body)
        if isinstance(message, Hello) and self._claimed is None:
            self._hello = body
            self._claimed = message.introduction
            return _OUR_PROLOGUE + self._on_hello(message)
        if isinstance(message, Proof) and self._claimed is not None:
            return self._on_proof(message, self._claimed)
        raise PeerProtocolError(f"{type(message).__name__} out of turn")

    def _on_hello(self, hello: Hello) -> bytes:
        peer = hello.introduction
        if text := self._cluster_text(peer):
            return self._refuse(WRONG_CLUSTER, text)
        if hello.to != self.own.node_id:
            text = f"node {self.own.node_id} answers where node {hello.to} should be: check cluster.members"
            return self._refuse(WRONG_NODE, text)
        itself = hello.purpose == FOR_A_LOOK and peer.incarnation == self.own.incarnation
        if peer.node_id in (NOBODY, self.own.node_id) and not itself:
            text = f"two nodes say that they are node {peer.node_id}: check node.id of both"
            return self._refuse(WRONG_NODE, text)
        if hello.purpose not in (FOR_MESSAGES, FOR_SNAPSHOT, FOR_A_LOOK):
            raise PeerProtocolError(f"a connection for purpose {hello.purpose}, which is not known here")
        self.purpose = hello.purpose
        return encode_frame(HANDSHAKE, self._challenge)

    def _on_proof(self, proof: Proof, peer: Introduction) -> bytes:
        expected = self._digest(_DIALER, self._hello, self._challenge)
        if text := self._secret_text(peer.node_id, proof.digest, expected):
            return self._refuse(WRONG_SECRET, text)
        if objection := self._check(peer):
            return self._refuse(code_of(objection), objection.text)
        self.peer = peer
        own = msgspec.msgpack.encode(self.own)
        digest = self._digest(_ACCEPTOR, self._hello, self._challenge, own)
        return _frame(Welcome(introduction=self.own, digest=digest))


def code_of(objection: Objection) -> str:
    """Return the code word that goes with a gatekeeper's refusal."""
    return REMOVED if objection.removed else NOT_WELCOME


def encode_refused(sender: NodeId, code: str, text: str) -> bytes:
    """Return the frame that tells a peer why it is refused."""
    return _frame(Refused(sender=sender, code=code, text=text[:_TEXT_CHARACTERS_MAX]))


def decode_refused(body: Buffer) -> Refusal:
    """Parse the only HANDSHAKE frame that may come once a link stands.

    Raises:
        PeerProtocolError: It is something else.
    """
    message = _CODEC.decode(body)
    if not isinstance(message, Refused):
        raise PeerProtocolError(f"{type(message).__name__} out of turn")
    return _refusal_of(message)


def _frame(message: Hello | Challenge | Proof | Welcome | Refused) -> bytes:
    return encode_frame(HANDSHAKE, _CODEC.encode(message))


def _refusal_of(refused: Refused) -> Refusal:
    # The text goes to our log, and the peer may be anybody: no line breaks, no terminal controls.
    text = "".join(character if character.isprintable() else "?" for character in refused.text)
    return Refusal(refused.code, text[:_TEXT_CHARACTERS_MAX], by_peer=True)
