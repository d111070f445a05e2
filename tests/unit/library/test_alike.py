"""Nodes stay alike: whatever fails, is flushed, crashes and is replayed, wherever and in whatever order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from respraft.library.errors import CommandError
from respraft.library.machine import Context, Machine
from respraft.library.user_machine import UserMachine, pieces_of
from respraft.storage.state_memory import MemoryStateStore


class Fragile(Machine):
    """Changes itself in several places, and fails in between."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.history: list[str] = []

    def apply(self, command: bytes, context: Context) -> object:
        name, breaks_at = chr(97 + command[0] % 5), command[0] // 5 % 5
        if breaks_at == 1:
            raise CommandError("refused")
        self.counts[name] = self.counts.get(name, 0) + 1
        if breaks_at == 2:
            raise ValueError(name)
        self.history.append(f"{name}{context.index}:{context.random.randrange(1000)}")
        if breaks_at == 3:
            self.counts.clear()
            raise KeyError(name)
        return [name, self.counts[name], context.time_ms]


Entries = list[list[int]]

entries = st.lists(st.lists(st.integers(0, 255), max_size=4), max_size=25)
# What is done to a node behind each entry: nothing, a flush, or a crash that keeps some unflushed writes.
events = st.lists(st.sampled_from(["", "", "flush", "crash 0", "crash 1", "crash 3"]), max_size=25)


class Replica:
    """Applies a history to a machine on a store, and goes back in it when the store does."""

    def __init__(self, history: Entries, journal_bytes_min: int) -> None:
        self.history = history
        self.journal_bytes_min = journal_bytes_min
        self.store = MemoryStateStore()
        self.replies: dict[int, list[object]] = {}
        self.start()

    def start(self) -> None:
        user = Fragile()
        fresh = list(pieces_of(user))
        self.machine = UserMachine(self.store, user, fresh=fresh, journal_bytes_min=self.journal_bytes_min)
        self.index = int(self.machine.meta(b"index") or 0)

    def advance(self, to: int) -> None:
        while self.index < to:
            self.index += 1
            commands = [[b"", bytes([number])] for number in self.history[self.index - 1]]
            replies = self.machine.apply(self.index, 1000 + self.index, commands, [], ())
            self.machine.commit({b"index": b"%d" % self.index})
            # A replay gives the same replies as the first time.
            assert self.replies.setdefault(self.index, replies) == replies

    def suffer(self, event: str) -> None:
        if event == "flush":
            flush = self.machine.begin_flush()
            assert flush is not None
            flush()
        elif event:
            self.store.crash(writes_kept=int(event.split()[1]))
            self.start()


@settings(max_examples=150)
@given(history=entries, events=events, journal_bytes_min=st.sampled_from([0, 600, 1 << 20]))
def test_a_node_with_a_hard_life_ends_like_one_with_none(
    history: Entries, events: list[str], journal_bytes_min: int
) -> None:
    quiet = Replica(history, 1 << 20)
    quiet.advance(len(history))
    hard = Replica(history, journal_bytes_min)
    for index, event in enumerate(events[: len(history)], start=1):
        hard.advance(index)
        hard.suffer(event)
    hard.advance(len(history))
    assert hard.replies == quiet.replies
    assert hard.machine.digest() == quiet.machine.digest()
