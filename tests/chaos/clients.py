"""Clients on real sockets: groups of commands through any node, and exactly what each was told.

Keys live for some hundred commands and are then left for new ones, so that the history of each is short
enough to be judged. Besides them a counter lasts, and a pair of keys that only MSET writes.
"""

import itertools
import random
import socket
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final, Protocol

import hiredis

from tests.process.cluster import Node
from tests.process.ports import LOOPBACK
from tests.simulation.linearizability import Operation
from tests.simulation.model import Reply

Command = tuple[bytes, ...]

NOT_EXECUTED: Final = ("CLUSTERDOWN", "BUSY", "LOADING", "NOCLUSTER", "OOM")
"""Error codes which promise that the command did nothing."""
UNKNOWN: Final = "TIMEOUT"

REPLY_S: Final = 12.0
"""A node that runs answers by then, whatever happens: parking and the request's own time-out take 8 s."""
STALL_S: Final = 2.0
"""Two election timeouts at their longest."""
CONNECT_S: Final = 2.0
OPERATIONS_PER_KEY: Final = 150
KINDS: Final = (b"r", b"r", b"c", b"e", b"e", b"l")
"""Registers, a counter, keys that expire, a lock: one of each generation."""
TOTAL: Final = b"total"
PAIR: Final = (b"pair:a", b"pair:b")


@dataclass(slots=True)
class Record:
    """What all clients know. Lists only grow, and appending is atomic."""

    operations: list[Operation] = field(default_factory=list)
    total_replies: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # By client.
    total_unknown: int = 0
    pairs: list[tuple[Reply, ...]] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    anomalies: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    waits_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The longest that anybody still waited after a fault, by its name."""
    stamps: "itertools.count[int]" = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keys(self) -> list[bytes]:
        """Return the keys of the generation that is under way, and of the one before for a while."""
        generation, rest = divmod(len(self.operations), OPERATIONS_PER_KEY * len(KINDS))
        late = rest < 2 * len(KINDS) and generation
        return [b"%s%d:%d" % (kind, place, generation - bool(late)) for place, kind in enumerate(KINDS)]


class Places(Protocol):
    """Which nodes there are for clients."""

    last_fault: str

    def serving(self) -> list[Node]:
        """Return the nodes that are meant to serve, whether or not they do."""

    def disturbances(self, node: Node) -> int:
        """Return a number that stays the same as long as nobody hurts this node."""

    def well_for_s(self) -> float:
        """Return for how long nobody has been hurting anything."""


class Connection:
    """One socket. Whatever ends it is an OSError."""

    def __init__(self, port: int, timeout_s: float = REPLY_S) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), CONNECT_S)
        self._socket.settimeout(timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, commands: list[Command]) -> None:
        """Send them in one piece."""
        self._socket.sendall(b"".join(hiredis.pack_command(command) for command in commands))  # type: ignore[arg-type]

    def receive(self) -> object:
        """Return the next reply; an error is a `hiredis.ReplyError`."""
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("closed by the node")
            self._reader.feed(data)
        return reply

    def close(self) -> None:
        self._socket.close()


class Client(threading.Thread):
    """Sends groups until told to stop; after an error it goes to another node."""

    def __init__(self, number: int, places: Places, record: Record, seed: int, think_s: float) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._number = number
        self._places = places
        self._record = record
        self._rng = random.Random(seed)
        self._think_s = think_s
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._node: Node | None = None
        self._well = 0  # What `disturbances` said when the connection was known to stand.
        self._values = 0

    def stop(self) -> None:
        """End behind the group under way."""
        self._stopping.set()

    def run(self) -> None:
        """Work."""
        while not self._stopping.wait(self._rng.random() * self._think_s):
            if self._connection is None or self._rng.random() < 0.02:
                self._connect()
            if self._connection is not None:
                self._group(self._connection)
        self._close()

    def _connect(self) -> None:
        self._close()
        self._node = self._rng.choice(self._places.serving())
        self._well = self._places.disturbances(self._node)
        try:
            self._connection = Connection(self._node.client_port)
        except OSError:
            self._stopping.wait(0.05)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _group(self, connection: Connection) -> None:
        """Send some commands and account for each reply."""
        assert self._node is not None
        commands = [self._command() for _ in range(self._rng.choice((1, 1, 1, 2, 5)))]
        last: dict[bytes, Operation] = {}
        operations = [self._operations(command, last) for command in commands]
        sent, sent_s = self._places.disturbances(self._node), time.monotonic()
        answered = 0
        try:
            connection.send(commands)
            for command, parts in zip(commands, operations, strict=True):
                reply = connection.receive()
                answered += 1
                self._in_time(command, sent_s)
                self._told(command, parts, reply)
        except OSError as error:
            since = sent if isinstance(error, TimeoutError) else self._well
            if self._places.disturbances(self._node) == since:
                self._record.anomalies.append(
                    f"client {self._number} at node {self._node.node_id}, which nobody had touched: "
                    f"{error!r} after {time.monotonic() - sent_s:.1f} s, at {commands[answered]!r}"
                )
            for command, parts in zip(commands[answered:], operations[answered:], strict=True):
                self._unknown(command, parts)
            self._close()
        else:
            self._well = sent
            self._record.slowest_s = max(self._record.slowest_s, time.monotonic() - sent_s)

    def _in_time(self, command: Command, sent_s: float) -> None:
        """However long a fault makes a client wait: soon after its end there is a leader, who answers."""
        waited_s = min(time.monotonic() - sent_s, self._places.well_for_s())
        after = self._places.last_fault
        self._record.waits_s[after] = max(waited_s, self._record.waits_s[after])
        if waited_s > STALL_S:
            self._record.anomalies.append(
                f"{time.strftime('%T')} client {self._number} at node {self._node and self._node.node_id}: "
                f"{command!r} waited {waited_s:.1f} s while all was well, after {after}"
            )

    def _told(self, command: Command, parts: list[Operation], reply: object) -> None:
        record = self._record
        if isinstance(reply, hiredis.ReplyError):
            code = str(reply).partition(" ")[0]
            record.codes[code] += 1
            if code == UNKNOWN:
                self._unknown(command, parts)
            elif code not in NOT_EXECUTED:
                record.anomalies.append(f"{command!r} at node {self._node and self._node.node_id}: {reply}")
            if code == "NOCLUSTER":
                self._close()
            return
        record.codes["ok"] += 1
        if command == (b"INCR", TOTAL):
            assert isinstance(reply, int)
            record.total_replies[self._number].append(reply)
        elif command == (b"MGET", *PAIR):
            assert isinstance(reply, list)
            record.pairs.append(tuple(reply))
        elif parts:
            replies = reply if command[0] == b"MGET" and isinstance(reply, list) else [reply] * len(parts)
            for operation, each in zip(parts, replies, strict=True):
                operation.returned, operation.reply = next(record.stamps), each
            record.operations.extend(parts)

    def _unknown(self, command: Command, parts: list[Operation]) -> None:
        if command == (b"INCR", TOTAL):
            with self._record.lock:
                self._record.total_unknown += 1
        self._record.operations.extend(each for each in parts if each.command[0] != b"GET")

    def _operations(self, command: Command, last: dict[bytes, Operation]) -> list[Operation]:
        """What a command does, key by key. `last` has what its group did before.

        Keys that last are judged otherwise.
        """
        name, *rest = command
        if command == (b"INCR", TOTAL) or PAIR[0] in command:
            return []
        if name == b"MGET":
            singles: list[Command] = [(b"GET", key) for key in rest]
        elif name == b"MSET":
            singles = [(b"SET", key, value) for key, value in zip(rest[::2], rest[1::2], strict=True)]
        else:
            singles = [command]
        operations = []
        for single in singles:
            operation = Operation(single, next(self._record.stamps), last.get(single[1]))
            last[single[1]] = operation
            operations.append(operation)
        return operations

    def _command(self) -> Command:
        rng = self._rng
        self._values += 1
        value = b"<%d.%d>" % (self._number, self._values)
        keys = self._record.keys()
        key, kind = rng.choice(keys), rng.random()
        if kind < 0.08:
            return (b"INCR", TOTAL)
        if kind < 0.12:
            return (b"MSET", PAIR[0], value, PAIR[1], value) if rng.random() < 0.5 else (b"MGET", *PAIR)
        if kind < 0.15:
            return (b"MGET", *keys)
        if kind < 0.18:
            return (b"MSET", keys[0], value, keys[1], value)
        if kind < 0.40:
            return (b"GET", key)
        if key.startswith(b"c"):
            return (b"INCR", key)
        if key.startswith(b"l"):
            lock = (b"SET", key, value, b"NX")
            return rng.choice((lock, (b"SETNX", key, value), (b"DEL", key, value)))
        if key.startswith(b"e") and rng.random() < 0.6:
            return (b"SET", key, value, b"PX", b"%d" % rng.choice((20, 100, 400)))
        return rng.choice(
            (
                (b"SET", key, value),
                (b"SET", key, value, b"XX"),
                (b"SET", key, value, b"GET"),
                (b"GETSET", key, value),
                (b"APPEND", key, value),
                (b"DEL", key, value),  # No key has a value's name, so this removes one key at most.
            )
        )
