"""A keyspace to try commands on: the machine over a store in memory, and a clock that a test turns."""

import random
import shlex

from respraft.commands.machine import KeyspaceMachine
from respraft.commands.record import NO_DEADLINE, count_key, encode_counts, encode_record, record_key
from respraft.commands.spec import Kind
from respraft.commands.table import KEYSPACE, lookup
from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply
from respraft.storage.state_memory import MemoryStateStore

NOON_MS = 1_700_000_000_000
"""When the clock of a keyspace starts unless a test says otherwise."""

OTHER_TYPE = 0x3E
"""A record type that is no string, and none that will come."""


class Keyspace:
    """Runs one command at a time, as a client with nobody else around would see it."""

    def __init__(self, now_ms: int = NOON_MS, *, other_type: bytes | None = None) -> None:
        """Start empty, or with one key in database 0 that is of another type than the commands here know."""
        self.now_ms = now_ms
        store = MemoryStateStore()
        if other_type is not None:
            record = encode_record(OTHER_TYPE, NO_DEADLINE, 1, b"")
            store.write({record_key(0, other_type): record, count_key(0): encode_counts(1, 0)})
        self.machine = KeyspaceMachine(store, lookup=lookup, rng=random.Random(0))
        self._index = 0

    def run(self, args: list[bytes], database: int = 0) -> Reply:
        """Run a command as a server would: refuse it, apply it, or read; LOCAL ones are not for here."""
        spec = KEYSPACE.check(args)
        if isinstance(spec, ReplyError):
            return spec
        assert spec.kind is not Kind.LOCAL
        self._index += 1
        if spec.kind is Kind.WRITE:
            replies = self.machine.apply(self._index, self.now_ms, [args], [database], [])
            self.machine.commit({})
        elif self._index % 2:  # A read that waits for a batch of its own clients runs inside it.
            replies = self.machine.apply(self._index, self.now_ms, [], [], [(0, database, args)])
            self.machine.commit({})
        else:
            due = self.machine.read([(database, args)], self.now_ms, self.now_ms)
            assert due is not None
            replies = due
        (reply,) = replies
        return reply

    def __call__(self, line: str, database: int = 0) -> Reply:
        """Run a command that is written as in redis-cli, quotes included."""
        return self.run([word.encode("latin-1") for word in shlex.split(line)], database)

    def refusal(self, line: str) -> str:
        """Run a command that must be refused; return the error's text with its code."""
        reply = self(line)
        assert isinstance(reply, ReplyError)
        return str(reply)
