"""A node of a cluster inside a program of yours, for asyncio; `blocking.py` is the same for everybody else.

    node = respraft.AsyncNode(Counter(), respraft.Configuration(id=1, directory="data/1", members=members))
    async with node:
        print(await node.write(b"5"))
        print(await node.read(b"value"))

Any node takes writes and reads; a leader is found behind the scenes. A write that is acknowledged is on the
disks of a majority and is executed once on every node. A read is linearizable on every node: it sees
everything that was acknowledged before it began.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from respraft.commands.table import LOCAL_COMMANDS, CommandTable
from respraft.library.call import Call, error_of, node_failed
from respraft.library.configuration import Configuration, Entry, Member, Status
from respraft.library.errors import (
    ChangeRefused,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    SnapshotFailed,
    Stopped,
)
from respraft.library.inspection import entry_of, status_of
from respraft.library.machine import Machine
from respraft.library.user_machine import NO_NAME, UserMachine, pieces_of
from respraft.node.node import Node
from respraft.raft import ready as raft
from respraft.raft.configuration import Member as RaftMember
from respraft.raft.message import NOBODY, Index, NodeId
from respraft.replica.admin import ChangeDone
from respraft.replica.changes import SetMembers
from respraft.server.server import Server

COMMAND_BYTES_MAX: Final = 64 << 20
"""Longest command and query, as for Redis clients."""

COMMAND_OVERHEAD_BYTES: Final = 16
"""What a command counts for besides its bytes, as it is limited what is in flight."""

CHANGE_S: Final = 60.0
"""How long a change of members may take where a call does not say it: new ones get the whole state first."""

DRAIN_S: Final = 5.0
"""How long a stopping node waits for what is in flight."""

_log: Final = logging.getLogger("respraft.library")


class AsyncNode:
    """One node. All methods are called on the event loop that `start` was called on."""

    def __init__(self, machine: Machine, configuration: Configuration) -> None:
        """Prepare a node; nothing is touched before `start`.

        Args:
            machine: A fresh one, the same on every node. It belongs to the node from now on.
            configuration: Of this node.

        Raises:
            ConfigError: A value of the configuration is impossible; the text says what would be right.
            SnapshotFailed: The machine cannot make a snapshot of itself.
            ValueError: A command of the machine has the name of one that every node has.
        """
        own = [each.spec for each in machine.own_commands]
        taken = {spec.name for spec in LOCAL_COMMANDS} & {spec.name for spec in own}
        if taken:
            names = ", ".join(sorted(name.decode("ascii") for name in taken))
            raise ValueError(f"the machine cannot have a command {names}: every node has one of that name")
        self._table = CommandTable([*LOCAL_COMMANDS, *own])
        self._machine = machine
        self._fresh = list(pieces_of(machine))
        self._configuration = configuration
        self._config = configuration.to_config()
        self._node: Node[UserMachine] | None = None
        self._server: Server | None = None
        self._calls: set[Call] = set()
        self._ended = "the node has not been started"  # Why it is not running.

    # -- Life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the directory, take the ports and begin. Returns before there is a leader: calls wait for one.

        The first time, a cluster forms only once all its members are started. Can be called again behind
        `stop`, and then goes on from the directory.

        Raises:
            StartRefused: The directory must not be used; the text says why and what to do.
            StorageFailed: It cannot be opened.
            OSError: An address cannot be listened on.
        """
        if self._node is not None:
            raise RuntimeError("the node is running")
        # Shielded: if the caller waits no longer, the directory must be let go of all the same.
        opening = asyncio.ensure_future(
            asyncio.to_thread(Node, self._config, self._user_machine, failed=self._failed)
        )
        try:
            node = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        for exposed in self._config.exposed_listeners():
            _log.warning("open to other machines, and without passwords: %s", exposed)
        try:
            await node.listen()
            if self._config.client.listen:
                self._server = Server(node, table=self._table, sizes=_no_sizes)
                await self._server.listen(self._config.client.listen)
        except BaseException:
            await self._close(node)
            raise
        if node.replica.membership.joining:
            node.contact({each.id: each.peer for each in self._configuration.join})
        node.start()
        self._node = node

    async def stop(self) -> None:
        """Hand leadership over, answer what is in flight, write the state down, and let go of everything.

        Calls that are not answered in 5 seconds raise OutcomeUnknown. Does nothing on a node that is not
        running.
        """
        node, self._node = self._node, None
        if node is None:
            return
        self._ended = "the node has been stopped"
        if node.failure is None:
            await self._drain(node)
        for call in list(self._calls):
            call.fail(OutcomeUnknown("the node was stopped before it had the answer"))
        await self._close(node)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # -- Commands ------------------------------------------------------------------------------------

    async def write(self, command: bytes, timeout: float | None = None) -> Any:
        """Have a command executed, once, on every node; return what this node's machine returned for it.

        Args:
            command: For the machine's `apply`.
            timeout: Seconds to wait; None: the configuration's `timeout_s`.

        Raises:
            CommandError: The machine refused or raised, and nothing has changed.
            NotExecuted: It was not and will not be executed (NoLeader, NotMember, Busy, Loading, Stopped).
            OutcomeUnknown: It was handed over, and no answer came in time: executed once, or never. Trying
                again may execute it twice.
            ReplyLost: It was executed, once, while this node was away.
            NodeFailed: This node has stopped by itself; the outcome is unknown.
            ValueError: The command is longer than 64 MiB.
        """
        return await self._execute(command, timeout, write=True)

    async def read(self, query: bytes, timeout: float | None = None, *, stale: bool = False) -> Any:
        """Have a query answered from the state of this node, once that is as new as the call.

        Args:
            query: For the machine's `read`.
            timeout: Seconds to wait; None: the configuration's `timeout_s`.
            stale: A state that is up to `max_stale_ms` old will do, and so no other node need be asked.

        Raises:
            CommandError: The machine refused or raised.
            NotExecuted: There is no answer that is certainly not stale (NoLeader, ReadTimeout, NotMember,
                Busy, Loading, Stopped).
            NodeFailed: This node has stopped by itself.
            ValueError: The query is longer than 64 MiB.
        """
        return await self._execute(query, timeout, write=False, stale=stale)

    async def transfer_leadership(self, to: NodeId | None = None) -> None:
        """Hand leadership over, without an error to anybody; returns when the other node leads.

        Args:
            to: The voter that is to lead; None: whichever is furthest.

        Raises:
            NotLeader: This node does not lead, and so cannot.
            ChangeRefused: There is nobody to hand it to, or it did not come about in time.
            NodeFailed, Stopped: This node is not running.
        """
        node = self._running()
        call = Call(node, asyncio.get_running_loop().create_future(), 0)
        try:
            node.transfer_leadership(to or NOBODY, call)
        except raft.NotLeader:
            raise NotLeader(self.leader()) from None
        except raft.TransferRefused as refusal:
            raise ChangeRefused(str(refusal)) from None
        await self._answer_of(call)

    async def set_members(self, members: Sequence[Member], timeout: float = CHANGE_S) -> None:
        """Make these the members of the cluster, in one change; any node may be asked.

        New members must be running by then, each with its own id, without `members` and with those that are
        there now as `join` in its configuration. They first get the log, and vote once they have it; until
        then those who leave still do. Members that are left out leave for good, and their ids are never given
        again. A node that belongs to no cluster, and has its own id in the list, founds one with the others.

        Args:
            members: All of them, as they shall be at the end.
            timeout: Seconds until all of it is done.

        Raises:
            ChangeRefused: Nothing was changed, and the text says why: a wrong list, a new node that cannot be
                reached, an id in use or used before, another change under way.
            NotExecuted: Nothing was changed (NoLeader, NotMember, Busy, Stopped).
            OutcomeUnknown: It is not done in time, and may be yet. Ask again: what is done stays done.
            NodeFailed: This node has stopped by itself.
        """
        node = self._running()
        own = next((member for member in members if member.id == self._configuration.id), None)
        if node.replica.membership.joining and own is not None:
            self._found(node, own)
        wanted = tuple(RaftMember(each.id, each.peer, each.client, 0, each.voter) for each in members)
        call = Call(node, asyncio.get_running_loop().create_future(), 0)
        refusal = node.change_members(SetMembers(wanted), call, timeout * 1000)
        if refusal is not None:
            raise error_of(refusal, node)
        done: ChangeDone = await self._answer_of(call)
        if done.code:
            raise ChangeRefused(done.text)

    # -- Views ---------------------------------------------------------------------------------------

    def leader(self) -> NodeId | None:
        """Return the leader's id as far as this node knows, or None. It may have changed since.

        Raises:
            Stopped: The node is not running.
        """
        leader = self._running().replica.leader
        return None if leader == NOBODY else leader

    def status(self) -> Status:
        """Return a snapshot of this node and of the cluster as it sees it.

        Raises:
            Stopped: The node is not running.
        """
        return status_of(self._running())

    def entry(self, index: Index) -> Entry:
        """Return a committed entry of the log.

        Raises:
            NoSuchEntry: The log does not hold it, or not yet; the error says which it holds.
            Stopped: The node is not running.
        """
        return entry_of(self._running(), index)

    # -- Own -----------------------------------------------------------------------------------------

    def _user_machine(self, store: Any) -> UserMachine:
        return UserMachine(store, self._machine, fresh=self._fresh)

    def _running(self) -> Node[UserMachine]:
        if self._node is None:
            raise Stopped(self._ended)
        if self._node.failure is not None:
            raise node_failed(self._node.failure)
        return self._node

    @staticmethod
    def _found(node: Node[UserMachine], own: Member) -> None:
        try:
            node.found(own.peer, own.client)
        except raft.AlreadyStarted as refusal:
            raise ChangeRefused(str(refusal)) from None

    async def _execute(
        self, command: bytes, timeout: float | None, *, write: bool, stale: bool = False
    ) -> Any:
        if len(command) > COMMAND_BYTES_MAX:
            raise ValueError(
                f"the command has {len(command)} bytes; at most {COMMAND_BYTES_MAX} are possible"
            )
        loop = asyncio.get_running_loop()
        seconds = self._configuration.timeout_s if timeout is None else timeout
        until = loop.time() + seconds
        while True:
            call = Call(self._running(), loop.create_future(), len(command) + COMMAND_OVERHEAD_BYTES)
            call.submit([NO_NAME, bytes(command)], write=write, stale=stale)
            timer = loop.call_at(until, call.expire_write if write else call.expire_read)
            try:
                return await self._answer_of(call)
            except NoLeader:
                # Parking has ended before the caller's patience has: it was not executed.
                if loop.time() >= until:
                    raise
            finally:
                timer.cancel()

    async def _answer_of(self, call: Call) -> Any:
        self._calls.add(call)
        try:
            return await call.future
        finally:
            self._calls.discard(call)

    def _failed(self, error: BaseException) -> None:
        """The node has stopped by itself."""
        for call in list(self._calls):
            call.fail(node_failed(error))
        if self._server is not None:
            self._server.abort()

    async def _drain(self, node: Node[UserMachine]) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(node.hand_over(), DRAIN_S)
        in_flight = [call.future for call in self._calls]
        if in_flight:
            await asyncio.wait(in_flight, timeout=DRAIN_S)
        if self._server is not None:
            await self._server.drain(DRAIN_S)

    async def _close(self, node: Node[UserMachine]) -> None:
        if self._server is not None:
            await self._server.drain(0)
            self._server = None
        try:
            await node.stop()
        except SnapshotFailed as error:
            _log.error("%s; the next start replays the log instead", error, exc_info=error.__cause__)
        finally:
            node.close()


def _close_unused(opening: "asyncio.Future[Node[UserMachine]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _no_sizes() -> Mapping[int, tuple[int, int]]:
    return {}
