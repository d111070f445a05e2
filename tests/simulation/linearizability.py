"""Is there an order of one key's operations that explains all replies?

The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memo of Lowe
("Testing for linearizability", 2017): operations are put in order one by one; an operation can be next if no
other one that is still to come had returned before it began; a set of operations in the order so far, together with
the state that it leads to, is looked at once.

An operation without a known outcome stays open for ever: it may take its place at any time after it began, or
never. Operations of one pipelined group on the same key keep their order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from tests.simulation.model import MISSING, KeyState, Reply, outcomes

BUDGET: Final = 100_000
"""Steps of the search, about a second."""


@dataclass(slots=True)
class Operation:
    """One command of one client on one key. Stamps are places in the order of all events of the run."""

    command: tuple[bytes, ...]
    invoked: int
    before: "Operation | None" = None  # The one of the same group and key that runs first.
    returned: int | None = None  # None: the outcome is unknown.
    reply: Reply = None

    @property
    def key(self) -> bytes:
        """The key that it is about."""
        return self.command[1]


class Verdict(Enum):
    """What the search found."""

    LINEARIZABLE = auto()
    VIOLATED = auto()
    UNDECIDED = auto()  # The budget was used up first. Not a pass.


class _Search:
    """One key's operations, numbered in the order in which they began; sets of them are bit masks."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        ordered = sorted(operations, key=lambda operation: operation.invoked)
        self.operations = ordered
        number = {id(operation): place for place, operation in enumerate(ordered)}
        self.before = [number[id(each.before)] if each.before is not None else -1 for each in ordered]
        self.closed = [place for place, each in enumerate(ordered) if each.returned is not None]
        self.open = [place for place, each in enumerate(ordered) if each.returned is None]
        self.goal = sum(1 << place for place in self.closed)

    def next_states(self, done: int, state: KeyState) -> Iterator[tuple[int, KeyState]]:
        """Yield every way to go on by one operation: the likely ones first, the open ones last."""
        for place in self._candidates(done):
            operation = self.operations[place]
            for after, reply in outcomes(state, operation.command):
                if operation.returned is None or reply == operation.reply:
                    yield done | 1 << place, after

    def _candidates(self, done: int) -> list[int]:
        operations, before = self.operations, self.before
        limit: float = float("inf")  # The first return of what is still to come.
        closed = []
        for place in self.closed:
            if done >> place & 1:
                continue
            operation = operations[place]
            if operation.invoked > limit:
                break
            assert operation.returned is not None
            limit = min(limit, operation.returned)
            if before[place] < 0 or done >> before[place] & 1:
                closed.append((operation.returned, place))
        found = [place for _, place in sorted(closed) if operations[place].invoked <= limit]
        seen: set[tuple[bytes, ...]] = set()
        for place in self.open:
            operation = operations[place]
            if operation.invoked > limit:
                break
            if done >> place & 1 or operation.command in seen:
                continue  # Of open ones that do the same, the first stands for all.
            if before[place] < 0 or done >> before[place] & 1:
                seen.add(operation.command)
                found.append(place)
        return found


def check(operations: Sequence[Operation], budget: int = BUDGET) -> Verdict:
    """Search for an order of one key's operations, beginning with the key missing."""
    search = _Search(operations)
    if not search.goal:
        return Verdict.LINEARIZABLE
    seen = {(0, MISSING)}
    path = [search.next_states(0, MISSING)]
    while path:
        step = next(path[-1], None)
        if step is None:
            path.pop()
            continue
        if step in seen:
            continue
        seen.add(step)
        done, state = step
        if done & search.goal == search.goal:
            return Verdict.LINEARIZABLE
        if len(seen) > budget:
            return Verdict.UNDECIDED
        path.append(search.next_states(done, state))
    return Verdict.VIOLATED


def shortest_violation(operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations up to the first return at which no order explains them any more."""
    returns = sorted(each.returned for each in operations if each.returned is not None)
    low, high = 0, len(returns) - 1
    while low < high:
        middle = (low + high) // 2
        if check(_until(operations, returns[middle])) is Verdict.VIOLATED:
            high = middle
        else:
            low = middle + 1
    return _until(operations, returns[low])


def _until(operations: Sequence[Operation], stamp: int) -> list[Operation]:
    """The history as it was at `stamp`: what returned later had not returned yet."""
    copies: dict[int, Operation] = {}
    for each in sorted(operations, key=lambda operation: operation.invoked):
        if each.invoked > stamp:
            continue
        returned = each.returned if each.returned is not None and each.returned <= stamp else None
        before = copies.get(id(each.before)) if each.before is not None else None
        reply = each.reply if returned is not None else None
        copies[id(each)] = Operation(each.command, each.invoked, before, returned, reply)
    return list(copies.values())
