"""Client connections: bytes into groups of commands, answers into bytes, and limits on both.

    data ──> parser ──> queue ──> group ──> replica ──> answer ──> one write
                                    └─ LOCAL commands run here, when nothing is in flight

Order: a connection has at most one *group* in flight, and what it sends meanwhile waits behind it. So its
replies come in the order of its commands, whatever path each of them takes. A group ends before a LOCAL
command, since that may change the connection (SELECT, HELLO) or ask about it; PING and ECHO do neither, and
take their place in the group.

Nothing here is done per command that can be done per group: one submit, one encode, one socket write.

Memory is bounded: requests of a client by `query_buffer_bytes_max` and by not reading on while a group is in
flight and enough is queued; replies by `output_buffer_bytes_max`, which all clients share. Libraries that do
not read before they have sent a whole pipeline get its replies within that: a client that is behind is served
on until it has half of the bytes, or all of them together have used them up. Then it stands still. Who has
read everything so far gets one group of replies in any case.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from respraft.commands.table import CommandTable
from respraft.config import ClientConfig
from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Command
from respraft.resp import errors
from respraft.resp.errors import ReplyError
from respraft.resp.replies import RESP2, Reply, encode, encode_all
from respraft.resp.requests import RequestLimits, RequestParser
from respraft.server.local.view import Deferred, NoReply
from respraft.server.request_queue import GROUP_REPLY_BYTES, RequestQueue

LOCAL_COMMANDS_MAX: Final = 64
"""LOCAL commands of one connection in a turn; some of them have replies of 100 KiB."""

_log: Final = logging.getLogger("respraft.clients")


class Owner(Protocol):
    """What a connection needs of the server."""

    client_config: ClientConfig
    table: CommandTable
    unread_bytes: int
    """Of replies to all clients that are behind; each of them keeps its share up to date."""

    @property
    def now_ms(self) -> float: ...

    def submit(
        self,
        client: "ClientConnection",
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
    ) -> Refusal | None: ...

    def execute_local(self, client: "ClientConnection", args: Command) -> Reply | NoReply | Deferred: ...

    def refusal_error(self, refusal: Refusal) -> ReplyError: ...

    def connected(self, client: "ClientConnection") -> bool: ...

    def disconnected(self, client: "ClientConnection") -> None: ...

    def congested(self, client: "ClientConnection") -> bool: ...

    def call_soon(self, callback: Callable[[], None]) -> None: ...


class ClientConnection(asyncio.Protocol):
    """One client. Also what CLIENT LIST shows of it (`server/local/view.py`)."""

    def __init__(self, owner: Owner, client_id: int, limits: RequestLimits) -> None:
        """Wait for the transport.

        Args:
            owner: The server.
            client_id: Never given twice in a process.
            limits: What a request may be.
        """
        self.id = client_id
        self.name = b""
        self.protocol = RESP2
        self.database = 0
        self.lib_name = b""
        self.lib_version = b""
        self.address = ""
        self.local_address = ""
        self.created_ms = owner.now_ms
        self.last_active_ms = owner.now_ms
        self.last_command = b""
        self.stale_reads = False
        self.no_evict = False
        self.no_touch = False
        self.reply_mode = "on"
        self.commands_total = 0
        self.input_bytes = 0
        self.output_bytes_total = 0
        self._owner = owner
        self._parser = RequestParser(limits)
        self._transport: asyncio.Transport | None = None
        self._queue = RequestQueue(owner.table, owner.client_config.group_commands_max)
        self._in_flight = False
        self._reading = True
        self._writable = True
        self._behind = False  # The socket has not taken all replies.
        self._unread_bytes = 0  # Its share in those of the owner.
        self._closing = False  # Run nothing more; close once everything that was said is said.
        self._ended = False  # The client sends nothing more; close once it has all its answers.

    def __repr__(self) -> str:
        return f"client {self.id} at {self.address}"

    # -- What CLIENT LIST reads ----------------------------------------------------------------------

    @property
    def query_bytes(self) -> int:
        """Bytes of requests that have not been submitted."""
        return self._queue.bytes + self._parser.pending_bytes

    @property
    def output_bytes(self) -> int:
        """Bytes of replies that the socket has not taken."""
        transport = self._transport
        return transport.get_write_buffer_size() if transport is not None else 0

    @property
    def in_flight(self) -> bool:
        """Whether a group of this client waits for its answer."""
        return self._in_flight

    def close_after_reply(self) -> None:
        """Take no further command; close when the replies so far have been written."""
        self._closing = True

    def stop(self) -> None:
        """The node stops: take no further command, answer what is in flight, then close."""
        self._closing = True
        self._queue.clear()
        if not self._in_flight:
            self._when_idle()

    def abort(self) -> None:
        """Close now. A group in flight runs on; its answer is dropped."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket, or refuse it politely when there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        self.address = _address_text(transport.get_extra_info("peername"))
        self.local_address = _address_text(transport.get_extra_info("sockname"))
        if not self._owner.connected(self):
            self._transport.write(b"-ERR max number of clients reached\r\n")
            self._transport.close()
            self._closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the queue. What is in flight runs on, and its answer is dropped."""
        self._transport = None
        self._queue.clear()
        self._closing = True
        self._count_unread(0)
        self._owner.disconnected(self)

    def data_received(self, data: bytes) -> None:
        """Parse; go on at once if nothing is in flight."""
        if self._closing:
            return
        self.last_active_ms = self._owner.now_ms
        self.input_bytes += len(data)
        pending = self._parser.pending_bytes
        commands = self._parser.feed(data)
        if commands:
            # A large value came in many pieces, and all of them count.
            self._queue.add(commands, pending + len(data) - self._parser.pending_bytes)
            if not self._in_flight and self._writable:
                self._proceed()
        if self._parser.error is not None and not self._queue.commands and not self._in_flight:
            self._break_off()
        elif self._reading and (self._queue.full or self._owner.congested(self)):
            self._pause_reading()
        elif self._parser.pending_bytes > self._owner.client_config.query_buffer_bytes_max:
            _log.warning("client %d: %s: request over query_buffer_bytes_max, closed", self.id, self.address)
            self.abort()

    def eof_received(self) -> bool:
        """Answer what was asked before the client closed its half, then close."""
        self._ended = True
        return self._in_flight or bool(self._queue.commands)

    def pause_writing(self) -> None:
        """The client reads slower than it asks: it may be behind for a while."""
        self._behind = True
        self._weigh_unread()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._behind = False
        self._count_unread(0)
        self._writable = True
        if not self._in_flight:
            self._proceed()
        self.resume_reading()

    # -- Groups --------------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        """Write the answer of the group in flight, and go on with what waits behind it."""
        if answer.refusal is not None:
            error = self._owner.refusal_error(answer.refusal)
            data = encode_all([error] * answer.count, self.protocol)
        else:
            data = encode_all(answer.replies, self.protocol)
        self.answer_bytes(data, answer.count, answer.unrun)

    def answer_bytes(self, data: bytes, count: int, unrun: Sequence[Command]) -> None:
        """The same, made into bytes already: `count` replies; and reads behind them, to be asked again."""
        self._in_flight = False
        if self._transport is None:
            return
        if unrun:
            self._queue.put_back(unrun)
            self.commands_total -= len(unrun)
        self._queue.adapt(len(data), count)
        self._write(data)
        if self._queue.commands:
            if self._writable:
                self._proceed()
        else:
            self._when_idle()
        if not self._reading:
            self.resume_reading()

    def resume_reading(self) -> None:
        """Read the socket again, unless something of this client's own forbids it."""
        if (
            not self._reading
            and self._writable
            and not self._queue.full
            and self._transport is not None
            and not self._owner.congested(self)
        ):
            self._reading = True
            self._transport.resume_reading()

    def _proceed(self) -> None:
        """Run LOCAL commands and submit the next group. Nothing is in flight when this is called."""
        queue = self._queue
        commands = queue.commands
        total = len(commands)
        taken = 0
        out: list[bytes] = []
        local_bytes = 0
        while taken < total and not self._closing:
            # CLIENT REPLY SKIP is about the next command alone.
            writes, reads, end, local = queue.next_group(taken, alone=self.reply_mode == "skip")
            if end > taken:
                size = queue.take_bytes(taken, end)
                refusal = self._owner.submit(self, writes, reads, size)
                taken_now, taken = end - taken, end
                if refusal is None:
                    self._in_flight = True
                    break
                error = encode(self._owner.refusal_error(refusal), self.protocol)
                out.append(error * taken_now if self.reply_mode == "on" else b"")
            elif local is not None:
                taken += 1
                data = self._run_local(local, commands[taken - 1])
                if data is None:
                    break
                out.append(data)
                local_bytes += len(data)
                if taken >= LOCAL_COMMANDS_MAX or local_bytes >= GROUP_REPLY_BYTES:
                    self._owner.call_soon(self._go_on)
                    break
        self.commands_total += taken
        if taken:
            self.last_command = commands[taken - 1][0]
        queue.drop(taken)
        if out and self._transport is not None:
            self._transport.write(b"".join(out))
            if self._behind:
                self._weigh_unread()
        if not self._in_flight:
            self._when_idle()

    def _go_on(self) -> None:
        """Run what a bound on the work of one turn has left over."""
        if not self._in_flight and self._writable and self._queue.commands:
            self._proceed()

    def _run_local(self, spec: object, args: Command) -> bytes | None:
        """Return what goes out; None if that comes later, and the command is in flight until then."""
        reply = spec if isinstance(spec, ReplyError) else self._owner.execute_local(self, args)
        if isinstance(reply, Deferred):
            self._in_flight = True
            # In a later pass of the loop, however soon it is there: `_proceed` is under way.
            reply.when_resolved(
                lambda reply: self._owner.call_soon(lambda: self.answer(Answer(self, 1, (reply,))))
            )
            return None
        if isinstance(reply, NoReply):
            return b""
        mode = self.reply_mode
        if mode == "skip":
            self.reply_mode = "on"
        return encode(reply, self.protocol) if mode == "on" else b""

    def _write(self, data: bytes) -> None:
        self.output_bytes_total += len(data)
        if self.reply_mode != "on":
            if self.reply_mode == "skip":
                self.reply_mode = "on"
            return
        transport = self._transport
        assert transport is not None, "the caller has looked"
        transport.write(data)
        if self._behind:
            self._weigh_unread()

    def _weigh_unread(self) -> None:
        """Run nothing more for a client that is behind by too much."""
        owner = self._owner
        unread, most = self.output_bytes, owner.client_config.output_buffer_bytes_max
        self._count_unread(unread)
        if unread > most // 2:
            _log.warning("client %d: %s: waits until it has read %d bytes", self.id, self.address, unread)
        if unread > most // 2 or owner.unread_bytes > most:
            self._writable = False
            self._pause_reading()

    def _count_unread(self, unread: int) -> None:
        self._owner.unread_bytes += unread - self._unread_bytes
        self._unread_bytes = unread

    # -- Ends ----------------------------------------------------------------------------------------

    def _when_idle(self) -> None:
        """Nothing is in flight or queued: an end that waited for this may come."""
        if self._transport is None:
            return
        if self._parser.error is not None and not self._queue.commands and not self._closing:
            self._break_off()
        elif self._closing or (self._ended and not self._queue.commands):
            self._transport.close()

    def _break_off(self) -> None:
        """The client broke the protocol, behind commands that have all been answered."""
        violation = self._parser.error
        assert violation is not None, "the caller has looked"
        if self._closing or self._transport is None:
            return
        self._closing = True
        _log.info("client %d: %s: %r, closed", self.id, self.address, violation.text)
        if violation.reply is not None and self.reply_mode == "on":
            self._transport.write(encode(violation.reply, self.protocol))
        self._transport.close()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()


_ERRORS: Final = {
    Refusal.NO_LEADER: errors.no_leader,
    Refusal.BUSY: errors.busy,
    Refusal.LOADING: errors.loading,
    Refusal.REPLY_LOST: errors.reply_lost,
    Refusal.OUTCOME_UNKNOWN: errors.outcome_unknown,
}


def refusal_error(refusal: Refusal, *, no_cluster: str) -> ReplyError:
    """Return what a client is told; `no_cluster` is the sentence for a node without a cluster."""
    if refusal is Refusal.NO_CLUSTER:
        return errors.no_cluster(no_cluster)
    if refusal is Refusal.READ_UNCONFIRMED:
        return ReplyError("TIMEOUT", "no quorum confirmed the leader in time; the reads were not executed")
    return _ERRORS[refusal]()


def _address_text(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(address or "")
