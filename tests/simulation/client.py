"""Clients: groups of pipelined commands through any node, one group at a time, and what became of them.

Every value is in one command only, so a value in the log or in a reply names its writer. A DEL has one as
well, as a second key. An INCR has none; counters are counted.
"""

import random
from enum import Enum, auto
from typing import Final, Protocol

from respraft.raft.message import NodeId
from respraft.replica.batch import Answer, Refusal
from respraft.resp.errors import ReplyError
from respraft.resp.replies import OK
from tests.simulation.linearizability import Operation
from tests.simulation.node import Node, Surroundings

REGISTERS: Final = (b"r1", b"r2")
COUNTERS: Final = (b"c1", b"c2")
FADING: Final = (b"e1", b"e2")
"""Keys that may get a deadline."""
KEYS: Final = REGISTERS + COUNTERS + FADING

NOT_EXECUTED: Final = (Refusal.NO_LEADER, Refusal.BUSY, Refusal.NO_CLUSTER, Refusal.LOADING)
"""Refusals which promise that nothing of the group was or will be executed."""

Command = tuple[bytes, ...]


class Outcome(Enum):
    """What the client knows of its group."""

    WAITING = auto()
    ANSWERED = auto()
    REFUSED = auto()  # Not executed.
    UNKNOWN = auto()


class Group:
    """Commands that one client sent in one go."""

    def __init__(self, client: "Client", node: Node, database: int, commands: list[Command]) -> None:
        self.client = client
        self.node_id = node.id
        self.life = node.lives
        self.database = database
        self.commands = commands
        self.outcome = Outcome.WAITING
        self.asked_us = 0
        self.stale = False  # It only reads, and need not see the newest state.
        self.operations: list[Operation] = []
        last: dict[bytes, Operation] = {}
        for name, key, *rest in commands:
            place = b"%s@%d" % (key, database)
            operation = Operation((name, place, *rest), client.history.stamp(), last.get(place))
            last[place] = operation
            self.operations.append(operation)

    def __repr__(self) -> str:
        return f"{b' / '.join(b' '.join(command) for command in self.commands).decode()} @{self.database}"

    def answered(self, answer: Answer) -> None:
        """Its node has answered it."""
        self.client.answered(self, answer)

    def writes(self) -> list[Command]:
        """Return the commands that write."""
        return [command for command in self.commands if command[0] != b"GET"]


class History(Protocol):
    """Where groups go when their client knows as much as it ever will."""

    def stamp(self) -> int:
        """Return the next place in the order of all events."""

    def ended(self, group: Group) -> None:
        """A group is over; `group.outcome` says how."""


class Client:
    """One client."""

    def __init__(
        self, number: int, world: Surroundings, nodes: dict[NodeId, Node], history: History, seed: int
    ) -> None:
        self.number = number
        self.history = history
        self.group: Group | None = None
        self._world = world
        self._nodes = nodes
        self._rng = random.Random(seed)
        self._home = min(nodes) if self._rng.random() < world.faults.crowd else 0
        self._node_id = self._choose()
        self._reads_only = self._rng.random() < world.faults.readers
        self._values = 0
        self._stopped = False

    def start(self) -> None:
        """Begin to send."""
        self._think()

    def stop(self) -> None:
        """Send nothing more after the group under way."""
        self._stopped = True

    def ask(self, node: Node, database: int, commands: list[Command], *, stale: bool = False) -> Group:
        """Send a group now. A node that is down gives no connection: it must be up."""
        group = self.group = Group(self, node, database, commands)
        group.asked_us = self._world.schedule.now_us
        group.stale = stale and not group.writes()
        self._world.say(f"client {self.number} -> n{node.id} {group}")
        node.give(lambda: self._submit(node, group))
        return group

    def answered(self, group: Group, answer: Answer) -> None:
        """The group under way is answered."""
        if group.outcome is not Outcome.WAITING:
            return  # The client has hung up.
        assert answer.count == len(group.operations), "an answer counts the commands of its group"
        if answer.refusal is not None:
            self._refused(group, answer.refusal)
            return
        assert len(answer.replies) == answer.count, "one reply per command"
        for operation, reply in zip(group.operations, answer.replies, strict=True):
            assert not isinstance(reply, ReplyError), f"{operation.command!r} got {reply}"
            operation.returned = self.history.stamp()
            operation.reply = b"OK" if reply is OK else reply
        self._end(group, Outcome.ANSWERED)

    def node_died(self, node_id: NodeId) -> None:
        """Its connections are gone."""
        group = self.group
        if group is not None and group.node_id == node_id:
            self._end(group, Outcome.UNKNOWN)

    def _submit(self, node: Node, group: Group) -> None:
        if group.life != node.lives:
            return
        writes: list[list[bytes]] = []
        reads: list[tuple[int, list[bytes]]] = []
        for command in group.commands:
            if command[0] == b"GET":
                reads.append((len(writes), list(command)))
            else:
                writes.append(list(command))
        size = sum(len(word) for command in group.commands for word in command)
        if writes:
            refusal = node.driver.submit(group, writes, reads, group.database, size)
        else:
            node.wake()
            submit = node.replica.submit_stale_reads if group.stale else node.replica.submit_reads
            refusal = submit(group, [read for _, read in reads], group.database, size)
        if refusal is not None and group.outcome is Outcome.WAITING:
            self._refused(group, refusal)

    def _refused(self, group: Group, refusal: Refusal) -> None:
        if refusal is Refusal.READ_UNCONFIRMED:
            assert not group.writes(), "a group that writes is no read"
            self._end(group, Outcome.REFUSED)
        else:
            self._end(group, Outcome.REFUSED if refusal in NOT_EXECUTED else Outcome.UNKNOWN)

    def _end(self, group: Group, outcome: Outcome) -> None:
        group.outcome = outcome
        replies = [each.reply for each in group.operations]
        self._world.say(f"client {self.number} <- n{group.node_id} {outcome.name} {replies}")
        self.group = None
        self.history.ended(group)
        if outcome is not Outcome.ANSWERED:
            self._node_id = self._choose()
        self._think()

    def _choose(self) -> NodeId:
        """The node to go to: the one that the client stays with, or any, mostly a member."""
        configuration = self._world.configuration
        members = sorted(self._nodes) if configuration is None else sorted(configuration.ids())
        if self._home in members:
            return self._home
        return self._rng.choice(members if self._rng.random() < 0.9 else sorted(self._nodes))

    def _think(self) -> None:
        if not self._stopped:
            self._world.schedule.after(self._rng.randint(0, self._world.faults.think_ms * 1000), self._next)

    def _next(self) -> None:
        if self._stopped or self.group is not None:
            return
        if self._rng.random() < 0.1 or not self._nodes[self._node_id].up:
            self._node_id = self._choose()
        node = self._nodes[self._node_id]
        if not node.up:
            self._think()
            return
        count = self._rng.randint(1, self._world.faults.group_max)
        only_reads = self._reads_only or self._rng.random() < 0.4
        commands = [self._command(only_reads) for _ in range(count)]
        stale = self._rng.random() < self._world.faults.stale
        group = self.ask(node, self._rng.choice((0, 0, 0, 1)), commands, stale=stale)
        if self._rng.random() < self._world.faults.impatient:
            patience_us = self._rng.randint(0, 100_000)
            self._world.schedule.after(patience_us, lambda: self._hang_up(group))

    def _hang_up(self, group: Group) -> None:
        if group.outcome is Outcome.WAITING:
            self._end(group, Outcome.UNKNOWN)

    def _command(self, only_read: bool) -> Command:
        rng = self._rng
        key = rng.choice(KEYS)
        if only_read or rng.random() < 0.3:
            return (b"GET", key)
        if key in COUNTERS:
            return (b"INCR", key)
        self._values += 1
        value = b"<%d.%d>" % (self.number, self._values)
        if key in FADING and rng.random() < 0.6:
            return (b"SET", key, value, b"PX", b"%d" % rng.choice((20, 100, 400)))
        return rng.choice(
            (
                (b"SET", key, value),
                (b"SET", key, value, b"NX"),
                (b"SET", key, value, b"XX"),
                (b"SET", key, value, b"GET"),
                (b"SETNX", key, value),
                (b"GETSET", key, value),
                (b"APPEND", key, value),
                (b"DEL", key, value),  # No key has a value's name, so this removes one key at most.
            )
        )
