"""A worker's clients: what `server.py` is to a node that serves its own.

A `clients.Owner`. Groups of all connections of one pass of the loop leave in one message; answers come back
as bytes and go to their connections. LOCAL commands on the connection run here, the others at the node.
"""

import logging
import time
from typing import Final

from respraft.commands.table import KEYSPACE
from respraft.config import ClientConfig
from respraft.replica.batch import Refusal
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply
from respraft.server.clients import ClientConnection
from respraft.server.connections import Connections
from respraft.server.local import execute_without_node
from respraft.server.local.view import Deferred, NoReply
from respraft.server.workers.link import Link
from respraft.server.workers.messages import (
    IDS_PER_LIFE,
    Answers,
    ClientPicture,
    Figures,
    Group,
    Groups,
    Local,
    Report,
)

MESSAGE_BYTES: Final = 1 << 20
"""Requests of a pass that travel in one message; more of them, in the next ones."""

_log: Final = logging.getLogger("respraft.workers")


class Front(Connections):
    """The clients of one worker."""

    def __init__(self, link: Link, config: ClientConfig, life: int) -> None:
        """Serve clients through `link`.

        Args:
            link: To the node's process.
            config: This worker's share of the limits.
            life: Which one of the workers that were ever started for the node this is.
        """
        super().__init__(config, KEYSPACE, last_id=life * IDS_PER_LIFE)
        self._link = link
        self._groups: list[Group] = []  # Of this pass.
        self._groups_bytes = 0
        self._sizes: dict[int, int] = {}  # Request bytes of the groups in flight, by connection.
        self._in_flight_bytes = 0
        self._told: Figures | None = None

    # -- clients.Owner -------------------------------------------------------------------------------

    @property
    def now_ms(self) -> float:
        """The monotonic clock, which the node's process has, too."""
        return time.monotonic() * 1000

    @property
    def is_congested(self) -> bool:
        """Whether so much is in flight that client sockets should not be read."""
        return self._in_flight_bytes > self.client_config.in_flight_bytes_max

    def submit(
        self,
        client: ClientConnection,
        writes: list[Command],
        reads: list[tuple[int, Command]],
        size: int,
    ) -> Refusal | None:
        """Put a client's group into the message of this pass. Refusals come as answers."""
        if not self._groups:
            self._loop.call_soon(self._flush)
        elif self._groups_bytes > MESSAGE_BYTES:
            self._flush()
            self._loop.call_soon(self._flush)
        places = [place for place, _ in reads] if writes else []
        commands = [command for _, command in reads]
        stale, protocol, database = client.stale_reads, client.protocol, client.database
        self._groups.append(Group(client.id, protocol, size, database, stale, writes, commands, places))
        self._groups_bytes += size
        self._sizes[client.id] = size
        self._in_flight_bytes += size
        return None

    def execute_local(self, client: ClientConnection, args: Command) -> Reply | NoReply | Deferred:
        """Run a LOCAL command, or have the node run it."""

        def ask_node() -> Deferred:
            self._link.send(Local(picture_of(client), args))
            return Deferred()  # Never resolved: the reply comes as bytes, as that of a group does.

        reply = execute_without_node(self, client, args, ask_node)
        if not isinstance(reply, Deferred):
            self.local_commands += 1
        return reply

    def refusal_error(self, refusal: Refusal) -> ReplyError:
        """Never asked: refusals come as bytes."""
        raise AssertionError(f"{refusal} was answered by nobody")

    # -- From the node -------------------------------------------------------------------------------

    def answers(self, message: Answers) -> None:
        """Hand answers to those connections that are still there."""
        for connection, count, data, unrun in message.answers:
            self._in_flight_bytes -= self._sizes.pop(connection, 0)
            client = self._clients.get(connection)
            if client is None:
                continue
            try:
                client.answer_bytes(data, count, unrun)
            except Exception:
                _log.exception("a client could not be answered and is cut off: %r", client)
                client.abort()
        self.resume_paused()

    def kill(self, connection: int, *, politely: bool) -> None:
        """Close a connection, if it is still there."""
        client = self._clients.get(connection)
        if client is None:
            return
        if politely:
            client.close_after_reply()
        else:
            client.abort()

    def report(self, number: int) -> None:
        """Tell the node of all connections as they are."""
        self.tell_figures()
        self._link.send(Report(number, [picture_of(client) for client in self._clients.values()]))

    def tell_figures(self) -> None:
        """Tell the node the totals so far, if it does not know them."""
        totals = self.counters()
        figures = Figures(
            clients=self.connected_clients,
            connections=totals.connections,
            rejected=totals.rejected,
            commands=totals.commands,
            local_commands=self.local_commands,
            input_bytes=totals.input_bytes,
            output_bytes=totals.output_bytes,
        )
        if figures != self._told:
            self._told = figures
            self._link.send(figures)

    def _flush(self) -> None:
        groups, self._groups = self._groups, []
        self._groups_bytes = 0
        if groups:
            self._link.send(Groups(groups))


def picture_of(client: ClientConnection) -> ClientPicture:
    """Return what LOCAL commands see of a connection."""
    return ClientPicture(
        id=client.id,
        name=client.name,
        protocol=client.protocol,
        database=client.database,
        lib_name=client.lib_name,
        lib_version=client.lib_version,
        stale_reads=client.stale_reads,
        no_evict=client.no_evict,
        no_touch=client.no_touch,
        address=client.address,
        local_address=client.local_address,
        created_ms=client.created_ms,
        last_active_ms=client.last_active_ms,
        last_command=client.last_command,
        commands_total=client.commands_total,
        query_bytes=client.query_bytes,
        output_bytes=client.output_bytes,
    )
