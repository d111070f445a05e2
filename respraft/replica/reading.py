"""How this node's reads get the barrier that they wait for, and their answers from the local state.

The leader is asked for it, be it this node itself (`barrier.py`). All that may run then is one call of the
machine in each turn, which stops where it would be too much work at once; the rest goes on in the next turn.
Should a key be due by this node's clock and not by the log's, those who touch it take a log entry instead
(`Origin`), so that no two nodes disagree on it.
"""

from collections.abc import Callable, Sequence
from typing import cast

from respraft.raft.message import Index, NodeId, ReadIndexRequest, ReadIndexResponse
from respraft.raft.node import RaftNode
from respraft.raft.ready import Role
from respraft.replica.applier import Applier
from respraft.replica.barrier import ReadBarrier, ReadGroup
from respraft.replica.batch import Answer, Refusal
from respraft.replica.machine import Machine, Reply
from respraft.replica.status import ReplicaCounters, ReplicaMessage, Samples


class Reading:
    """The reads of this node's clients. No I/O; the replica drives it each turn."""

    def __init__(
        self,
        *,
        start_counter: int,
        barrier: ReadBarrier,
        core: RaftNode,
        machine: Machine,
        applier: Applier,
        at_entry: Callable[[ReadGroup], Refusal | None],
        send: Callable[[NodeId, ReplicaMessage], None],
        counters: ReplicaCounters,
        samples: Samples,
    ) -> None:
        """Start with none.

        Args:
            start_counter: Of this process; answers to an earlier one count for nothing.
            barrier: Has the reads until they may run.
            core: Knows the leader, and is asked where this node leads.
            machine: What is read.
            applier: Says as of when that is.
            at_entry: Takes a group that must run at a log entry, or refuses it.
            send: Takes a message for another node.
            counters: Increased here.
            samples: Take how long barriers took.
        """
        self.again = False  # Something is left for another turn.
        self._start_counter = start_counter
        self._barrier = barrier
        self._core = core
        self._machine = machine
        self._applier = applier
        self._at_entry = at_entry
        self._send = send
        self._counters = counters
        self._samples = samples
        self._stale: list[ReadGroup] = []  # Run at the end of this turn, on what is applied by then.
        self._left: list[ReadGroup] = []  # May run, and were too much for the last turn.

    def ask(self, now_ms: float) -> None:
        """Ask for a barrier if reads wait for one. Called once per turn, before `answer`."""
        core = self._core
        self._stale = self._barrier.take_stale(now_ms)
        number = self._barrier.ask(core.leader, core.term, now_ms)
        if number is None:
            return
        self._counters.barriers_asked += 1
        if core.role is Role.LEADER:
            core.read_index(number)
        else:
            token = (self._start_counter, number)
            self._send(core.leader, ReadIndexRequest(core.node_id, core.term, token))

    def on_response(self, response: ReadIndexResponse, now_ms: float) -> None:
        """The leader has answered: this process, or an earlier one."""
        start_counter, number = response.token
        if start_counter == self._start_counter:
            self.confirmed(number, response.index, now_ms)

    def confirmed(self, number: object, index: Index, now_ms: float) -> None:
        """A quorum has confirmed barrier `number`, up to `index`; 0: it is refused."""
        waited_ms = self._barrier.confirmed(cast(int, number), index, now_ms)
        if waited_ms is not None:
            self._samples.barrier_ms.append(waited_ms)

    def answer(self, now_ms: float, wall_ms: int) -> list[Answer]:
        """Answer what may run on what is applied now, as much as one turn can bear."""
        due = self._barrier.due(self._applier.index, now_ms)
        stale, self._stale = self._stale, []
        return [*self._answer_due(due, wall_ms), *self._answer_stale(stale)]

    def _answer_due(self, due: list[ReadGroup], wall_ms: int) -> list[Answer]:
        """Answer those that were left, and then those that are `due` now."""
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

    def _answer_stale(self, groups: list[ReadGroup]) -> list[Answer]:
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
