"""A worker's front and its node's desk, joined by a real socket pair; connections and node are stand-ins."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from respraft.config import ClientConfig
from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError, busy
from respraft.resp.replies import Reply
from respraft.server.clients import ClientConnection
from respraft.server.local.view import ClientView, Deferred, NoReply
from respraft.server.workers.crew import share_of
from respraft.server.workers.front import Front
from respraft.server.workers.link import Link
from respraft.server.workers.messages import IDS_PER_LIFE, Answers, Groups, Kill, Local, Message
from respraft.server.workers.remote import Desk, Mirror, RemoteClient
from tests.unit.server.test_clients import FakeTransport

CONFIG = ClientConfig(listen="127.0.0.1:7001", in_flight_bytes_max=4096)
LIFE = 3
PASSES_MAX = 100_000


@dataclass
class FakeNode:
    """Keeps groups, as a replica does until it answers."""

    refusal: Refusal | None = None
    writes: list[tuple[RemoteClient, list[Command], list[tuple[int, Command]], int]] = field(
        default_factory=list
    )
    reads: list[tuple[RemoteClient, list[Command], int, bool]] = field(default_factory=list)
    reply: Reply | Deferred = b"the node's"

    def hand_in(
        self,
        client: RemoteClient,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
        database: int,
    ) -> Refusal | None:
        assert size >= 0
        self.writes.append((client, writes, reads, database))
        return self.refusal

    def hand_in_reads(
        self, client: RemoteClient, commands: list[Command], size: int, database: int, *, stale: bool
    ) -> Refusal | None:
        assert size >= 0
        self.reads.append((client, commands, database, stale))
        return self.refusal

    def execute_local(self, client: ClientView, args: Command) -> Reply | NoReply | Deferred:
        if args[-1] == b"myself":
            client.close_after_reply()
        return self.reply

    def refusal_error(self, refusal: Refusal) -> ReplyError:
        assert refusal is Refusal.BUSY
        return busy()


class Pair:
    """A worker and its node, in one process."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.desk = Desk(self.node)
        self.ended = [asyncio.Event(), asyncio.Event()]
        self.desk.link = Link(self._at_node, self.ended[0].set)
        self.worker_link = Link(self._at_worker, self.ended[1].set)
        self.front = Front(self.worker_link, CONFIG, LIFE)

    async def join(self) -> "Pair":
        loop = asyncio.get_running_loop()
        link = self.desk.link
        assert link is not None
        for each, end in zip((link, self.worker_link), socket.socketpair(), strict=True):
            await loop.create_connection(lambda each=each: each, sock=end)  # type: ignore[misc]
        return self

    def connect(self) -> tuple[ClientConnection, FakeTransport]:
        client, transport = self.front.accept(), FakeTransport()
        client.connection_made(transport)  # type: ignore[arg-type]
        return client, transport

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(PASSES_MAX):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("not within many passes of the loop")

    async def end(self) -> None:
        self.worker_link.abort()
        for each in self.ended:
            await each.wait()

    def _at_node(self, message: Message) -> None:
        if isinstance(message, Groups):
            self.desk.take(message)
        elif isinstance(message, Local):
            self.desk.run_local(Mirror(message.client), message.args)

    def _at_worker(self, message: Message) -> None:
        if isinstance(message, Answers):
            self.front.answers(message)
        elif isinstance(message, Kill):
            self.front.kill(message.connection, politely=message.politely)


def run(scenario: Callable[[Pair], Awaitable[None]]) -> None:
    async def main() -> None:
        pair = await Pair().join()
        await scenario(pair)
        await pair.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_what_connections_send_in_one_pass_is_one_message_and_every_answer_finds_its_own() -> None:
    async def scenario(pair: Pair) -> None:
        one, two = pair.connect(), pair.connect()
        one[0].data_received(b"SELECT 2\r\nGET a\r\nSET a 1\r\nGET b\r\n")
        two[0].data_received(b"HELLO 3\r\nREADONLY\r\nGET c\r\n")
        await pair.until(lambda: pair.node.writes and pair.node.reads)
        (writer, writes, reads, database), (reader, commands, other, stale) = (
            pair.node.writes[0],
            pair.node.reads[0],
        )
        assert (writes, database) == ([[b"SET", b"a", b"1"]], 2)
        assert reads == [(0, [b"GET", b"a"]), (1, [b"GET", b"b"])]
        assert (commands, other, stale) == ([[b"GET", b"c"]], 0, True)
        greeting = len(two[1].written)
        reader.answer(Answer(reader, 1, (None,)))
        writer.answer(Answer(writer, 3, (b"x", 1, b"y")))
        pair.desk.flush()
        await pair.until(lambda: not (one[0].in_flight or two[0].in_flight))
        assert one[1].written == b"+OK\r\n$1\r\nx\r\n:1\r\n$1\r\ny\r\n"
        assert two[1].written[greeting:] == b"_\r\n"  # In the protocol that HELLO chose.
        assert (one[0].id, two[0].id) == (LIFE * IDS_PER_LIFE + 1, LIFE * IDS_PER_LIFE + 2)

    run(scenario)


def test_a_refusal_answers_every_command_of_the_group() -> None:
    async def scenario(pair: Pair) -> None:
        pair.node.refusal = Refusal.BUSY
        client, transport = pair.connect()
        client.data_received(b"INCR a\r\nGET a\r\n")
        await pair.until(lambda: transport.written)
        assert transport.written.count(b"-BUSY ") == 2

    run(scenario)


def test_reads_that_were_too_much_at_once_are_asked_for_again() -> None:
    async def scenario(pair: Pair) -> None:
        client, transport = pair.connect()
        client.data_received(b"GET a\r\nGET b\r\nGET c\r\n")
        await pair.until(lambda: pair.node.reads)
        remote, commands, _, _ = pair.node.reads.pop()
        remote.answer(Answer(remote, 1, (b"1",), None, commands[1:]))
        pair.desk.flush()
        await pair.until(lambda: pair.node.reads)
        remote, commands, _, _ = pair.node.reads.pop()
        assert commands == [[b"GET", b"b"], [b"GET", b"c"]]
        remote.answer(Answer(remote, 2, (b"2", b"3")))
        pair.desk.flush()
        await pair.until(lambda: not client.in_flight)
        assert transport.written == b"$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"

    run(scenario)


def test_sockets_are_not_read_while_too_much_is_in_flight() -> None:
    async def scenario(pair: Pair) -> None:
        big, small = pair.connect(), pair.connect()
        big[0].data_received(b"SET a " + b"x" * CONFIG.in_flight_bytes_max + b"\r\n")
        small[0].data_received(b"SET b 1\r\n")
        assert not small[1].reading
        await pair.until(lambda: len(pair.node.writes) == 2)
        small[0].connection_lost(None)  # Whoever goes is still answered, and counted.
        for remote, *_ in pair.node.writes:
            remote.answer(Answer(remote, 1, (1,)))
        pair.desk.flush()
        await pair.until(lambda: big[1].reading)
        assert not pair.front.is_congested

    run(scenario)


def test_who_closes_himself_is_answered_first_and_keeps_the_order() -> None:
    async def scenario(pair: Pair) -> None:
        client, transport = pair.connect()
        client.data_received(b"CLIENT KILL ADDR myself\r\nGET a\r\n")
        await pair.until(lambda: transport.closed)
        assert transport.written == b"$10\r\nthe node's\r\n"
        assert transport.closed == "closed"

    run(scenario)


def test_a_reply_that_comes_later_keeps_what_is_behind_it_waiting() -> None:
    async def scenario(pair: Pair) -> None:
        later = pair.node.reply = Deferred()
        client, transport = pair.connect()
        client.data_received(b"RAFT.SNAPSHOT NOW\r\nGET a\r\n")
        await asyncio.sleep(0)
        assert client.in_flight and not pair.node.reads
        later.resolve(ReplyError("ERR", "no"))
        await pair.until(lambda: pair.node.reads)
        assert transport.written == b"-ERR no\r\n"

    run(scenario)


def test_all_workers_together_keep_to_what_is_for_a_node() -> None:
    limits = ClientConfig(
        listen="127.0.0.1:7001",
        max_clients=10,
        in_flight_bytes_max=1 << 20,
        output_buffer_bytes_max=1 << 20,
    )
    share = share_of(limits, 4)
    assert share.max_clients == 3  # Rounded up: else some of ten would find no worker.
    assert share.in_flight_bytes_max == share.output_buffer_bytes_max == 1 << 18
    least = share_of(ClientConfig(listen="127.0.0.1:7001", output_buffer_bytes_max=1024), 4)
    assert least.output_buffer_bytes_max == 1024
