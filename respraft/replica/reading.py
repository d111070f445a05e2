"""Answering reads from the local state, once a barrier says that they may run there.

All reads of a turn are one call of the machine, which stops where it would be too much work at once; the rest
goes on in the next turn. Should a key be due by this node's clock and not by the log's, those who touch it
take a log entry instead (`Origin`), so that no two nodes disagree on it.
"""

from collections.abc import Callable, Sequence

from respraft.replica.applier import Applier
from respraft.replica.barrier import ReadGroup
from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Machine, Reply
from respraft.replica.status import ReplicaCounters


class Reading:
    """The reads of this node's clients that may run."""

    def __init__(
        self,
        *,
        machine: Machine,
        applier: Applier,
        at_entry: Callable[[ReadGroup], Refusal | None],
        counters: ReplicaCounters,
    ) -> None:
        """Start with none.

        Args:
            machine: What is read.
            applier: Says as of when that is.
            at_entry: Takes a group that must run at a log entry, or refuses it.
            counters: Increased here.
        """
        self.again = False  # Something is left for another turn.
        self._machine = machine
        self._applier = applier
        self._at_entry = at_entry
        self._counters = counters
        self._left: list[ReadGroup] = []  # May run, and were too much for the last turn.

    def answer(self, due: list[ReadGroup], wall_ms: int) -> list[Answer]:
        """Answer those that were left and those that are `due` now, as many as one turn can bear."""
        self.again = False
        groups, self._left = self._left + due, []
        if not groups:
            return []
        log_time_ms = self._applier.log_time_ms
        commands = [pair for group in groups for pair in group.database_commands()]
        now_ms = max(log_time_ms, wall_ms)
        replies = self._machine.read(commands, log_time_ms, now_ms)
        if replies is None:
            return self._answer_one_by_one(groups, log_time_ms, now_ms)
        return self._share(groups, replies)

    def answer_stale(self, groups: list[ReadGroup]) -> list[Answer]:
        """Answer reads that may run on what is applied, at the log's time: as of then no key is overdue."""
        if not groups:
            return []
        self._counters.reads_stale += sum([len(group.commands) for group in groups])
        log_time_ms = self._applier.log_time_ms
        commands = [pair for group in groups for pair in group.database_commands()]
        replies = self._machine.read(commands, log_time_ms, log_time_ms)
        assert replies is not None, "no key is due by one clock and not by the other"
        return self._share(groups, replies)

    def _share(self, groups: list[ReadGroup], replies: Sequence[Reply]) -> list[Answer]:
        """Hand replies to the groups in turn; who comes behind the last one goes on in the next turn.

        The group in which they end gets what there is, and its client asks for the rest anew.
        """
        self._counters.reads_answered += len(replies)
        answers: list[Answer] = []
        start = 0
        for place, group in enumerate(groups):
            count = len(group.commands)
            part = replies[start : start + count]
            if len(part) == count:
                answers.append(Answer(group.client, count, part))
            elif part:
                answers.append(Answer(group.client, len(part), part, None, group.commands[len(part) :]))
            else:
                self._leave(groups[place:])
                break
            start += count
        return answers

    def _answer_one_by_one(self, groups: list[ReadGroup], log_time_ms: int, now_ms: int) -> list[Answer]:
        """Some key is due by our clock and not by the log's: only its readers take a log entry."""
        answers: list[Answer] = []
        for place, group in enumerate(groups):
            replies = self._machine.read(group.database_commands(), log_time_ms, now_ms)
            if replies is None:
                answers += self._read_at_entry(group)
                continue
            answers += self._share([group], replies)
            if len(replies) < len(group.commands):
                self._leave(groups[place + 1 :])
                break
        return answers

    def _read_at_entry(self, group: ReadGroup) -> list[Answer]:
        self._counters.reads_at_entry += len(group.commands)
        self.again = True
        refusal = self._at_entry(group)
        return [] if refusal is None else [group.refuse(refusal)]

    def _leave(self, groups: list[ReadGroup]) -> None:
        self._left += groups
        self.again = True
