"""A client connection: groups, their order, and the limits, without a socket and without a replica."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from respraft.commands.table import KEYSPACE
from respraft.config import ClientConfig
from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError
from respraft.resp.replies import OK, Reply
from respraft.resp.requests import RequestLimits
from respraft.server.clients import LOCAL_COMMANDS_MAX, ClientConnection, refusal_error
from respraft.server.local.view import NO_REPLY, Deferred, NoReply
from respraft.server.request_queue import GROUP_COMMANDS_START, GROUP_REPLY_BYTES, QUEUED_BYTES_MAX

LIMITS = RequestLimits(
    arguments_max=1000, bulk_bytes_max=1 << 20, inline_bytes_max=1 << 16, header_bytes_max=1 << 16
)


class FakeTransport:
    """What a connection does with its socket."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.closed = ""
        self.unsent = 0

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", {"peername": 50000, "sockname": 7001}[name])

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "aborted"


class FakeOwner:
    """Takes groups and keeps them, as a replica does until it answers."""

    client_config = ClientConfig(
        listen="127.0.0.1:7001", bulk_bytes_max=1 << 20, query_buffer_bytes_max=2 << 20
    )
    table = KEYSPACE
    now_ms = 5.0

    def __init__(self) -> None:
        self.unread_bytes = 0
        self.groups: list[tuple[list[Command], list[tuple[int, Command]]]] = []
        self.refusal: Refusal | None = None
        self.full = False
        self.is_congested = False
        self.sizes: list[int] = []
        self.soon: list[Callable[[], None]] = []
        self.deferred = Deferred()  # What RAFT.LEADER replies with.

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def submit(
        self, client: ClientConnection, writes: list[Command], reads: list[tuple[int, Command]], size: int
    ) -> Refusal | None:
        if self.refusal is None:
            self.groups.append((writes, reads))
            self.sizes.append(size)
        return self.refusal

    def execute_local(self, client: ClientConnection, args: Command) -> Reply | NoReply | Deferred:
        if args[:2] == [b"CLIENT", b"REPLY"]:
            client.reply_mode = args[2].decode().lower()
            return OK if client.reply_mode == "on" else NO_REPLY
        if args[0] == b"QUIT":
            client.close_after_reply()
        if args[0] == b"RAFT.LEADER":
            return self.deferred
        return b" ".join(args)

    def refusal_error(self, refusal: Refusal) -> ReplyError:
        return refusal_error(refusal, no_cluster="none")

    def connected(self, client: ClientConnection) -> bool:
        return not self.full

    def disconnected(self, client: ClientConnection) -> None:
        self.gone = client.id

    def congested(self, client: ClientConnection) -> bool:
        return self.is_congested


UNREAD_BYTES_MAX = FakeOwner.client_config.output_buffer_bytes_max


class Peer:
    """The client's side of one connection."""

    def __init__(self, *, full: bool = False) -> None:
        self.owner = FakeOwner()
        self.owner.full = full
        self.transport = FakeTransport()
        self.connection = ClientConnection(self.owner, 1, LIMITS)
        self.connection.connection_made(cast(asyncio.BaseTransport, self.transport))

    def send(self, *lines: str) -> None:
        self.connection.data_received("".join(f"{line}\r\n" for line in lines).encode())

    def answer(self, *replies: Reply) -> None:
        self.connection.answer(Answer(self.connection, len(replies), replies))

    def take(self) -> bytes:
        written, self.transport.written = self.transport.written, b""
        return written


@pytest.fixture
def peer() -> Peer:
    return Peer()


def words(*lines: str) -> list[Command]:
    return [line.encode().split() for line in lines]


def test_a_pipeline_is_one_group_in_which_reads_keep_their_places(peer: Peer) -> None:
    peer.send("SET a 1", "GET a", "SET a 2", "GET a")
    assert peer.owner.groups == [(words("SET a 1", "SET a 2"), [(1, [b"GET", b"a"]), (2, [b"GET", b"a"])])]
    peer.answer(OK, b"1", OK, b"2")
    assert peer.take() == b"+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n"


def test_what_comes_while_a_group_is_in_flight_waits_behind_it(peer: Peer) -> None:
    peer.send("SET a 1")
    peer.send("GET a", "PING")
    assert len(peer.owner.groups) == 1
    peer.answer(OK)
    assert peer.owner.groups[1:] == [([], [(0, [b"GET", b"a"]), (0, [b"PING"])])]
    assert peer.take() == b"+OK\r\n"


def test_a_local_command_that_concerns_the_connection_ends_the_group(peer: Peer) -> None:
    peer.send("SET a 1", "SELECT 3", "GET a")
    assert peer.owner.groups == [(words("SET a 1"), [])]
    peer.answer(OK)
    assert peer.take() == b"+OK\r\n$8\r\nSELECT 3\r\n"
    assert len(peer.owner.groups) == 2


def test_ping_alone_needs_no_replica_and_in_a_pipeline_takes_its_place(peer: Peer) -> None:
    peer.send("PING", "ECHO x")
    assert (peer.take(), peer.owner.groups) == (b"$4\r\nPING\r\n$6\r\nECHO x\r\n", [])
    peer.send("SET a 1", "PING", "SET b 1")
    assert peer.owner.groups == [(words("SET a 1", "SET b 1"), [(1, [b"PING"])])]


def test_a_refused_command_is_answered_at_its_place(peer: Peer) -> None:
    peer.send("SET a 1", "GET", "NOSUCH x", "GET a")
    peer.answer(OK)
    peer.answer(b"1")
    lines = peer.take().split(b"\r\n")
    assert lines[0] == b"+OK" and lines[3:] == [b"$1", b"1", b""]
    assert lines[1].startswith(b"-ERR wrong number of arguments for 'get'")
    assert lines[2].startswith(b"-ERR unknown command 'NOSUCH'")


def test_a_refused_group_is_answered_once_per_command_and_the_next_one_follows(peer: Peer) -> None:
    peer.owner.refusal = Refusal.BUSY
    peer.send("SET a 1", "SET b 1", "PING")
    assert peer.take().count(b"-BUSY") == 3  # PING was a member of the group.
    peer.owner.refusal = None
    peer.send("SET a 1")
    assert len(peer.owner.groups) == 1


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal.NO_LEADER, b"-CLUSTERDOWN No raft leader"),
        (Refusal.BUSY, b"-BUSY"),
        (Refusal.LOADING, b"-LOADING"),
        (Refusal.NO_CLUSTER, b"-NOCLUSTER none"),
        (Refusal.OUTCOME_UNKNOWN, b"-TIMEOUT outcome unknown"),
        (Refusal.READ_UNCONFIRMED, b"-TIMEOUT"),
    ],
)
def test_a_refusal_says_by_its_code_whether_the_write_may_have_happened(
    peer: Peer, refusal: Refusal, code: bytes
) -> None:
    peer.send("SET a 1", "SET b 1")
    peer.connection.answer(Answer(peer.connection, 2, (), refusal))
    written = peer.take()
    assert written.startswith(code) and written.count(b"\r\n") == 2


def test_reply_off_and_skip_drop_replies_and_nothing_else(peer: Peer) -> None:
    peer.send("CLIENT REPLY SKIP", "SET a 1", "SET b 1")
    assert peer.owner.groups == [(words("SET a 1"), [])]
    peer.answer(OK)
    peer.answer(OK)
    assert peer.take() == b"+OK\r\n"
    peer.send("CLIENT REPLY OFF", "SET a 1")
    peer.answer(OK)
    peer.send("CLIENT REPLY ON")
    assert peer.take() == b"+OK\r\n"


def test_malformed_input_is_told_behind_the_answers_of_what_came_before(peer: Peer) -> None:
    peer.connection.data_received(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n!\r\n")
    assert peer.take() == b""
    peer.answer(None)
    assert peer.take() == b"$-1\r\n-ERR Protocol error: expected '$', got '!'\r\n"
    assert peer.transport.closed == "closed"


def test_malformed_input_is_told_also_to_a_client_that_sends_no_more(peer: Peer) -> None:
    peer.connection.data_received(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n!\r\n")
    assert peer.connection.eof_received() is True
    peer.answer(None)
    assert peer.take() == b"$-1\r\n-ERR Protocol error: expected '$', got '!'\r\n"
    assert peer.transport.closed == "closed"


@pytest.mark.parametrize("mode", ["OFF", "SKIP"])
def test_malformed_input_is_not_told_to_a_client_that_wants_no_reply(peer: Peer, mode: str) -> None:
    peer.send(f"CLIENT REPLY {mode}")
    peer.connection.data_received(b"*1\r\n!\r\n")
    assert (peer.take(), peer.transport.closed) == (b"", "closed")


def test_a_browser_is_cut_off_without_a_word(peer: Peer) -> None:
    peer.send("POST / HTTP/1.1", "Host: x")
    assert (peer.take(), peer.transport.closed) == (b"", "closed")


def test_quit_answers_what_came_before_and_drops_what_comes_after(peer: Peer) -> None:
    peer.send("SET a 1", "QUIT", "SET b 1")
    peer.answer(OK)
    assert peer.take() == b"+OK\r\n$4\r\nQUIT\r\n"
    assert peer.transport.closed == "closed" and len(peer.owner.groups) == 1


def test_a_client_that_sends_no_more_still_gets_its_answers(peer: Peer) -> None:
    peer.send("SET a 1", "SELECT 1", "SET b 1")
    assert peer.connection.eof_received() is True
    peer.answer(OK)
    assert peer.transport.closed == ""
    peer.answer(OK)
    assert peer.take().endswith(b"+OK\r\n") and peer.transport.closed == "closed"


def test_an_idle_client_that_ends_is_closed_at_once(peer: Peer) -> None:
    assert peer.connection.eof_received() is False


def test_a_client_that_is_behind_is_served_on(peer: Peer) -> None:
    """A library may send a whole pipeline before it reads the first reply."""
    peer.send("GET a", "SELECT 1", "GET b", "SELECT 2", "GET c")
    peer.transport.unsent = UNREAD_BYTES_MAX // 2
    peer.connection.pause_writing()
    peer.answer(b"x")
    peer.answer(b"x")
    assert len(peer.owner.groups) == 3 and peer.transport.reading


def test_clients_that_are_behind_have_one_limit_together(peer: Peer) -> None:
    peer.owner.unread_bytes = UNREAD_BYTES_MAX  # Others'.
    peer.send("GET a")
    peer.transport.unsent = 1
    peer.connection.pause_writing()
    assert not peer.transport.reading
    assert peer.owner.unread_bytes == UNREAD_BYTES_MAX + 1
    peer.connection.resume_writing()
    assert peer.owner.unread_bytes == UNREAD_BYTES_MAX


def test_a_client_that_grows_behind_and_goes_leaves_nothing_in_the_count(peer: Peer) -> None:
    peer.send("GET a", "SELECT 1", "GET b")
    peer.transport.unsent = 1000
    peer.connection.pause_writing()
    peer.transport.unsent = 3000
    peer.answer(b"x")
    assert peer.owner.unread_bytes == 3000
    peer.connection.connection_lost(None)
    assert peer.owner.unread_bytes == 0


def test_a_client_that_does_not_read_is_not_served_on(peer: Peer) -> None:
    peer.send("GET a")
    peer.transport.unsent = UNREAD_BYTES_MAX // 2 + 1
    peer.connection.pause_writing()
    peer.send("GET b")
    peer.answer(b"x")
    assert len(peer.owner.groups) == 1 and not peer.transport.reading
    peer.connection.resume_writing()
    assert len(peer.owner.groups) == 2 and peer.transport.reading


def test_a_large_value_counts_in_full_however_many_pieces_it_came_in(peer: Peer) -> None:
    value = b"x" * (1 << 20)
    request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(value), value)
    for start in range(0, len(request), 1 << 16):
        peer.connection.data_received(request[start : start + (1 << 16)])
    assert peer.owner.sizes == [len(request)]
    peer.connection.data_received(request)
    assert peer.transport.reading is False


def test_a_large_command_among_small_ones_is_weighed_and_not_averaged(peer: Peer) -> None:
    peer.send("SET a 1")
    peer.send(*["SET b 1"] * 100, "SET c " + "x" * 60_000)
    for _ in range(30):
        peer.send("SET c " + "x" * 60_000)
    peer.send(*["SET d 1"] * 1000)
    peer.answer(OK)
    assert peer.owner.sizes[1] < 1000
    peer.answer(*[OK] * GROUP_COMMANDS_START)


def test_local_commands_have_a_bound_in_each_turn(peer: Peer) -> None:
    peer.send(*["TIME"] * (2 * LOCAL_COMMANDS_MAX + 1))
    counts = [peer.take().count(b"TIME")]
    while peer.owner.soon:
        peer.owner.soon.pop()()
        counts.append(peer.take().count(b"TIME"))
    assert counts == [LOCAL_COMMANDS_MAX, LOCAL_COMMANDS_MAX, 1]


def test_what_did_not_run_is_asked_for_again_behind_what_did(peer: Peer) -> None:
    peer.send("GET a", "GET b", "GET c")
    peer.connection.answer(Answer(peer.connection, 1, [b"x"], None, words("GET b", "GET c")))
    assert peer.take() == b"$1\r\nx\r\n"
    assert [reads for _, reads in peer.owner.groups][1] == [(0, [b"GET", b"b"]), (0, [b"GET", b"c"])]
    peer.answer(b"y", b"z")
    assert peer.take() == b"$1\r\ny\r\n$1\r\nz\r\n"


def test_a_congested_node_stops_reading_whoever_sends(peer: Peer) -> None:
    peer.owner.is_congested = True
    peer.send("SET a 1")
    assert not peer.transport.reading


def test_a_socket_is_not_read_while_much_is_queued(peer: Peer) -> None:
    value = "x" * (QUEUED_BYTES_MAX // 32)
    peer.send("SET a 1")
    reading = []
    for _ in range(34):
        peer.send(f"SET a {value}")
        reading.append(peer.transport.reading)
    assert reading == sorted(reading, reverse=True) and len(set(reading)) == 2
    peer.answer(OK)
    peer.answer(*[OK] * GROUP_COMMANDS_START)
    assert {peer.transport.reading} == {True}


def test_a_request_that_outgrows_the_query_buffer_ends_the_connection(peer: Peer) -> None:
    peer.connection.data_received(b"*4\r\n$4\r\nMSET\r\n")
    for _ in range(2):
        peer.connection.data_received(b"$1048576\r\n" + b"x" * 1048576 + b"\r\n")
    assert peer.transport.closed == "aborted"


def test_a_congested_node_does_not_resume_reading(peer: Peer) -> None:
    peer.transport.unsent = UNREAD_BYTES_MAX
    peer.connection.pause_writing()
    peer.owner.is_congested = True
    peer.connection.resume_writing()
    reading = [peer.transport.reading]
    peer.owner.is_congested = False
    peer.connection.resume_reading()
    assert [*reading, peer.transport.reading] == [False, True]


def test_groups_grow_while_replies_are_small_and_shrink_when_they_are_large(peer: Peer) -> None:
    def next_group() -> int:
        peer.send(*["GET a"] * 200)
        writes, reads = peer.owner.groups[-1]
        return len(writes) + len(reads)

    sizes: list[int] = []
    reply: Any = b"x"
    peer.send(*["GET a"] * 200)
    for _ in range(3):
        count = len(peer.owner.groups[-1][1])
        sizes.append(count)
        peer.answer(*[reply] * count)
    assert sizes == [GROUP_COMMANDS_START, 2 * GROUP_COMMANDS_START, 200 - 3 * GROUP_COMMANDS_START]
    assert next_group() == 4 * GROUP_COMMANDS_START
    peer.answer(*[bytes(GROUP_REPLY_BYTES)] * (4 * GROUP_COMMANDS_START))
    assert len(peer.owner.groups[-1][1]) == 2 * GROUP_COMMANDS_START


def test_one_client_too_many_is_told_and_closed() -> None:
    peer = Peer(full=True)
    assert peer.take() == b"-ERR max number of clients reached\r\n"
    peer.send("PING")
    assert (peer.take(), peer.transport.closed) == (b"", "closed")


def test_an_answer_that_comes_after_the_client_has_gone_is_dropped(peer: Peer) -> None:
    peer.send("SET a 1", "SELECT 1")
    peer.connection.connection_lost(None)
    peer.answer(OK)
    assert (peer.take(), peer.owner.gone) == (b"", 1)


def test_a_stopping_node_answers_what_is_in_flight_and_closes(peer: Peer) -> None:
    peer.send("SET a 1")
    peer.send("SET b 1")
    peer.connection.stop()
    assert peer.transport.closed == ""
    peer.answer(OK)
    assert (peer.take(), peer.transport.closed) == (b"+OK\r\n", "closed")


def test_a_deferred_reply_holds_back_what_was_sent_behind_it(peer: Peer) -> None:
    peer.send("TIME", "RAFT.LEADER", "GET a", "TIME")
    assert peer.take() == b"$4\r\nTIME\r\n" and peer.connection.in_flight and not peer.owner.groups
    peer.owner.deferred.resolve(b"later")
    peer.owner.soon.pop()()
    assert peer.take() == b"$5\r\nlater\r\n" and len(peer.owner.groups) == 1
    peer.answer(b"x")
    assert peer.take() == b"$1\r\nx\r\n$4\r\nTIME\r\n"


def test_a_deferred_reply_that_is_there_already_keeps_its_place(peer: Peer) -> None:
    peer.owner.deferred.resolve(ReplyError("ERR", "no"))
    peer.owner.deferred.resolve(b"too late")
    peer.send("TIME", "RAFT.LEADER", "TIME")
    peer.owner.soon.pop()()
    assert peer.take() == b"$4\r\nTIME\r\n-ERR no\r\n$4\r\nTIME\r\n"


def test_a_client_may_go_before_its_deferred_reply_comes(peer: Peer) -> None:
    peer.send("RAFT.LEADER", "TIME")
    peer.connection.connection_lost(None)
    peer.owner.deferred.resolve(b"later")
    peer.owner.soon.pop()()
    assert peer.take() == b""
