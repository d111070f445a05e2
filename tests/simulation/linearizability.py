"""Is there an order of one key's operations that explains all replies?

The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memo of Lowe
("Testing for linearizability", 2017): operations are put in order one by one; an operation can be next if no
other one that is still to come had returned before it began; a set of operations in the order so far,
together with the state that it leads to, is looked at once.

Where the log shows in which order operations ran, that order is tried first, and without those that it has
not. This only makes the search short: an order that explains everything does so wherever it came from.

An operation without a known outcome stays open for ever: it may take its place at any time after it began, or
never. Operations of one pipelined group on the same key keep their order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from tests.simulation.model import MISSING, KeyState, Reply, outcomes

NEVER: Final = 1 << 62

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
    log_place: int = NEVER  # Where the log has it, if that is known. A hint: it decides nothing.

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
        self.before = _places_before(ordered)
        self.closed = [place for place, each in enumerate(ordered) if each.returned is not None]
        self.open = [place for place, each in enumerate(ordered) if each.returned is None]
        self.goal = sum(1 << place for place in self.closed)
        self.rank = {place: rank for rank, place in enumerate(self.closed)}
        # Where the log is known, its order is the one to try first. Reads come before writes: the only ones
        # that are left to try then are those that found a fading key gone.
        self.likelihood = [
            (-1 if each.command[0] == b"GET" else each.log_place, each.returned or NEVER) for each in ordered
        ]

    def next_states(self, done: int, state: KeyState) -> Iterator[tuple[int, KeyState]]:
        """Yield every way to go on by one operation, the likely ones first.

        A read that fits and changes nothing is taken at once and is the only way: if there is an order at
        all, there is one with the read here.
        """
        candidates = self._candidates(done)
        for place in candidates:
            operation = self.operations[place]
            if operation.command[0] == b"GET" and operation.reply == state.value:
                yield done | 1 << place, state
                return
        for place in candidates:
            operation = self.operations[place]
            for after, reply in outcomes(state, operation.command):
                if operation.returned is None or reply == operation.reply:
                    yield done | 1 << place, after

    def _candidates(self, done: int) -> list[int]:
        operations, before = self.operations, self.before
        limit = NEVER  # The first return of what is still to come.
        found: list[int] = []
        left = self.goal & ~done
        for place in self.closed[self.rank[(left & -left).bit_length() - 1] :]:
            if done >> place & 1:
                continue
            operation = operations[place]
            if operation.invoked > limit:
                break
            assert operation.returned is not None
            limit = min(limit, operation.returned)
            if before[place] < 0 or done >> before[place] & 1:
                found.append(place)
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
        found.sort(key=self.likelihood.__getitem__)
        return found


def _places_before(ordered: Sequence[Operation]) -> list[int]:
    """For each operation the place of the one that its client sent before it; -1 for none that counts."""
    number = {id(operation): place for place, operation in enumerate(ordered)}
    places = []
    for each in ordered:
        before = each.before
        while before is not None and id(before) not in number:
            before = before.before  # A read without a reply, which is not part of the history.
        places.append(-1 if before is None else number[id(before)])
    return places


def check(operations: Sequence[Operation], budget: int = BUDGET) -> Verdict:
    """Search for an order of one key's operations, beginning with the key missing."""
    likely = [each for each in operations if each.returned is not None or each.log_place != NEVER]
    if len(likely) < len(operations) and _search(likely, budget) is Verdict.LINEARIZABLE:
        return Verdict.LINEARIZABLE
    return _search(operations, budget)


def _search(operations: Sequence[Operation], budget: int) -> Verdict:
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
        copies[id(each)] = Operation(each.command, each.invoked, before, returned, reply, each.log_place)
    return list(copies.values())
