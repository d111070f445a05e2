"""One worker as the node's process sees it: takes its messages, and gives answers back.

`RemoteClient` waits for the answer of one group, as a connection of the node's own would (`node.NodeClient`),
and makes bytes of it. `Mirror` is a connection as LOCAL commands see it, made of a picture.
"""

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply, encode, encode_all
from respraft.server.local.view import REPLY_ON, ClientView, Deferred, NoReply
from respraft.server.workers.link import Link
from respraft.server.workers.messages import (
    REPLY_BYTES_MAX,
    Answers,
    ClientPicture,
    Groups,
    Kill,
)

ANSWERS_BYTES: Final = 1 << 20
"""Reply bytes that travel in one message; more of them, in the next ones."""

_log: Final = logging.getLogger("respraft.workers")


class Node(Protocol):
    """What workers need of the node's own server."""

    def hand_in(
        self,
        client: "RemoteClient",
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
        database: int,
    ) -> Refusal | None: ...

    def hand_in_reads(
        self, client: "RemoteClient", commands: list[Command], size: int, database: int, *, stale: bool
    ) -> Refusal | None: ...

    def execute_local(self, client: ClientView, args: Command) -> Reply | NoReply | Deferred: ...

    def refusal_error(self, refusal: Refusal) -> ReplyError: ...


class Desk:
    """Where the groups of one worker are handed in, and its answers gather until `flush`."""

    def __init__(self, node: Node) -> None:
        """Have no link yet: what is answered before is dropped."""
        self.node = node
        self.link: Link | None = None
        self._answers: list[tuple[int, int, bytes, Sequence[Command]]] = []
        self._answers_bytes = 0

    def take(self, message: Groups) -> None:
        """Hand in what a worker's connections have brought."""
        node = self.node
        for group in message.groups:
            client = RemoteClient(self, group.connection, group.protocol)
            writes, reads = group.writes, group.reads
            if writes:
                placed = list(zip(group.places, reads, strict=True))
                refusal = node.hand_in(client, writes, placed, group.size, group.database)
            else:
                refusal = node.hand_in_reads(client, reads, group.size, group.database, stale=group.stale)
            if refusal is not None:
                client.answer(Answer(client, len(writes) + len(reads), (), refusal))
        if self._answers:
            self.flush()  # Refusals need no turn.

    def answer(self, connection: int, count: int, data: bytes, unrun: Sequence[Command]) -> None:
        """Keep an answer for the next message."""
        self._answers.append((connection, count, data, unrun))
        self._answers_bytes += len(data)
        if self._answers_bytes > ANSWERS_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send the answers that have gathered."""
        if self._answers:
            answers, self._answers = self._answers, []
            self._answers_bytes = 0
            if self.link is not None:
                self.link.send(Answers(answers))

    def kill(self, connection: int, *, politely: bool) -> None:
        """Have a connection closed, behind all answers so far."""
        self.flush()
        if self.link is not None:
            self.link.send(Kill(connection, politely))

    def run_local(self, client: "Mirror", args: Command) -> None:
        """Run a LOCAL command of a worker's connection, and send the reply when it is there."""
        reply = self.node.execute_local(client, args)
        if isinstance(reply, Deferred):
            reply.when_resolved(lambda reply: self.reply(client, reply))
        else:
            assert not isinstance(reply, NoReply), "CLIENT REPLY is the worker's own"
            self.reply(client, reply)

    def reply(self, client: "Mirror", reply: Reply) -> None:
        """Send the reply of a LOCAL command."""
        if client.closing:
            self.kill(client.id, politely=True)  # Which takes effect behind the reply in flight.
        self.answer(client.id, 1, encode(reply, client.protocol), ())
        self.flush()


class RemoteClient:
    """Waits for the answer of one group of a worker's connection. A `NodeClient`."""

    def __init__(self, desk: Desk, connection: int, protocol: int) -> None:
        self._desk = desk
        self._connection = connection
        self._protocol = protocol

    def __repr__(self) -> str:
        return f"client {self._connection} of a worker"

    def answer(self, answer: Answer) -> None:
        """Make bytes of the replies and give them to the worker's desk."""
        desk = self._desk
        if answer.refusal is not None:
            error = desk.node.refusal_error(answer.refusal)
            data = encode_all([error] * answer.count, self._protocol)
        else:
            data = encode_all(answer.replies, self._protocol)
            if len(data) > REPLY_BYTES_MAX:
                data = encode_all([_too_long(len(data))] * answer.count, self._protocol)
        desk.answer(self._connection, answer.count, data, answer.unrun)

    def abort(self) -> None:
        """The answer cannot be given."""
        self._desk.kill(self._connection, politely=False)


class Mirror:
    """A worker's connection, as it was when the picture was made. A `ClientView`.

    Commands that change a connection run at the worker; here only its closing is of effect.
    """

    def __init__(self, picture: ClientPicture) -> None:
        self.id = picture.id
        self.name = picture.name
        self.protocol = picture.protocol
        self.database = picture.database
        self.lib_name = picture.lib_name
        self.lib_version = picture.lib_version
        self.stale_reads = picture.stale_reads
        self.no_evict = picture.no_evict
        self.no_touch = picture.no_touch
        self.reply_mode = REPLY_ON  # The worker's to look at.
        self.address = picture.address
        self.local_address = picture.local_address
        self.created_ms = picture.created_ms
        self.last_active_ms = picture.last_active_ms
        self.last_command = picture.last_command
        self.commands_total = picture.commands_total
        self.query_bytes = picture.query_bytes
        self.output_bytes = picture.output_bytes
        self.closing = False

    def close_after_reply(self) -> None:
        """Have the connection closed once the reply of the command that runs is written."""
        self.closing = True


def _too_long(size: int) -> ReplyError:
    _log.warning("replies of %d bytes are too long for a worker", size)
    return ReplyError("ERR", "the replies of this pipeline are too long for a node with server.workers")
