"""The requests of one connection that wait, and how they become groups.

A group ends before a LOCAL command (`clients.py` says why), and at a number of commands that follows the size
of their replies. Sizes of requests are what the socket brought, headers included; the size of a group is an
estimate where little is queued.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Final

from respraft.commands.spec import Kind
from respraft.commands.table import CommandTable
from respraft.replica.machine import Command
from respraft.resp.errors import ReplyError

QUEUED_BYTES_MAX: Final = 1 << 20
"""Requests that a connection may have queued behind its group in flight before its socket is not read."""
GROUP_COMMANDS_START: Final = 32
"""Commands in a new connection's group. Doubled while replies are small, halved while they are large:
a thousand reads of ten bytes are one group, a thousand of ten megabytes must not be."""
GROUP_REPLY_BYTES: Final = 1 << 20
"""Reply bytes of a group, or of LOCAL commands in one turn, that count as large."""


class RequestQueue:
    """See the module's docstring. Owned by one connection."""

    def __init__(self, table: CommandTable, group_commands_max: int) -> None:
        """Begin with nothing.

        Args:
            table: Says of each command what kind it is, or what is wrong with it.
            group_commands_max: Commands in a group, however small their replies.
        """
        self.commands: list[Command] = []
        """In their order. Replaced, not emptied: who runs through them may keep the list."""
        self.bytes = 0
        """Of the requests that were not taken."""
        self._table = table
        self._group_commands_max = group_commands_max
        self._group_max = GROUP_COMMANDS_START

    @property
    def full(self) -> bool:
        """Whether the socket should not be read for now."""
        return self.bytes > QUEUED_BYTES_MAX

    def add(self, commands: list[Command], size: int) -> None:
        """Put what came behind the others; the list is the queue's from now on."""
        self.bytes += size
        if self.commands:
            self.commands += commands
        else:
            self.commands = commands

    def put_back(self, commands: Sequence[Command]) -> None:
        """Put commands that were taken, and have not run, before the others."""
        self.commands[:0] = commands

    def clear(self) -> None:
        """Forget everything."""
        self.commands = []
        self.bytes = 0

    def next_group(
        self, start: int, *, alone: bool
    ) -> tuple[list[Command], list[tuple[int, Command]], int, object | None]:
        """Look for the group that begins at position `start`.

        Args:
            start: Before the end of the queue.
            alone: It is one command, whatever comes behind it.

        Returns:
            Its writes; its reads with the number of writes before each; the position behind it; and, when
            the group is empty, the row or the refusal of the LOCAL command that stands there.
        """
        queue = self.commands
        check = self._table.check
        writes: list[Command] = []
        reads: list[tuple[int, Command]] = []
        limit = 1 if alone else self._group_max
        position = start
        for position in range(start, min(len(queue), start + limit)):
            args = queue[position]
            spec = check(args)
            if isinstance(spec, ReplyError):
                return writes, reads, position, spec
            if spec.kind is Kind.LOCAL and (position == start or spec.function is None):
                return writes, reads, position, spec
            if spec.kind is Kind.WRITE:
                writes.append(args)
            else:
                reads.append((len(writes), args))
        return writes, reads, position + 1, None

    def take_bytes(self, start: int, end: int) -> int:
        """Count the commands from `start` to `end` no more; return how many bytes they have."""
        queue, total = self.commands, self.bytes
        if end == len(queue):
            size = total
        elif total <= QUEUED_BYTES_MAX:
            size = total * (end - start) // (len(queue) - start)
        else:
            # One of them may weigh nearly all. Headers are left to the last group of the queue.
            size = min(total, sum(map(len, chain.from_iterable(queue[start:end]))))
        self.bytes = total - size
        return size

    def drop(self, count: int) -> None:
        """Let the first `count` commands go."""
        del self.commands[:count]
        if not self.commands:
            self.bytes = 0

    def adapt(self, reply_bytes: int, count: int) -> None:
        """Learn from the replies to a group of `count` commands how large groups should be."""
        if reply_bytes > GROUP_REPLY_BYTES:
            self._group_max = max(1, count // 2)
        elif count == self._group_max:
            self._group_max = min(2 * count, self._group_commands_max)
