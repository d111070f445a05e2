"""What a user writes: a machine. (Commands of its own for Redis clients are in `own_command.py`.)

    class Counter(respraft.Machine):
        value = 0

        def apply(self, command, context):
            self.value += int(command)
            return self.value

Every node has one such object, and every committed command is applied to each of them in the same order.
So the rules are those of a replicated state machine, and the nodes stay alike only if they are kept:

* **Deterministic**: what `apply` returns and how it changes the machine depends on the machine, the command
  and the context, on nothing else. Time is `context.time_ms`, chance is `context.random`. No clock, no
  `random`, no I/O, no iteration over a set of strings or bytes, whose order differs from process to process.
* **Whole**: all of the state is in what `snapshot` yields. What it leaves out is gone after a restart.
* **Quick**: a node does nothing else while a command runs; keep it to milliseconds.
* A read changes nothing.

An exception is the writer's error and changes nothing, on every node alike. `CommandError` is free, because
it promises that nothing was changed yet; after any other exception the state is restored from a snapshot
(`user_machine.py`). A MemoryError says something about this node alone and stops it.
"""

import copy
import random
from collections.abc import Iterable
from typing import Any, ClassVar, Final

import msgspec

from respraft.library.errors import CommandError
from respraft.library.own_command import DECLARED, OwnCommand

PIECE_BYTES: Final = 1 << 20
"""Size of the pieces in which the default `snapshot` is stored."""

_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class Context:
    """What a command may know besides the machine: its place and its time."""

    __slots__ = ("_draws", "_seed", "index", "time_ms")

    def __init__(self, index: int, time_ms: int, seed: int | None) -> None:
        self.index = index
        """Log index of the entry that a write is in; of the last one applied, for a read. Several commands
        may share an entry."""
        self.time_ms = time_ms
        """Now, Unix milliseconds: the log's time for a write, which never goes back; for a read the later of
        that and this node's own clock."""
        self._seed = seed
        self._draws: random.Random | None = None

    @property
    def random(self) -> random.Random:
        """Randomness that is the same on every node; for reads, this node's own."""
        if self._draws is None:
            self._draws = random.Random(self._seed)
        return self._draws


class Machine:
    """The base class of users' machines. Every method can be overridden; the state is the attributes."""

    own_commands: ClassVar[tuple[OwnCommand, ...]] = ()
    """The commands that `command` has declared on the class, by name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        found = {each.spec.name: each for each in cls.own_commands}
        for value in vars(cls).values():
            declared = getattr(value, DECLARED, None)
            if isinstance(declared, OwnCommand):
                found[declared.spec.name] = declared
        cls.own_commands = tuple(found[name] for name in sorted(found))

    def apply(self, command: bytes, context: Context) -> Any:
        """Execute a write and return its reply, any value, to whoever called `write`.

        Args:
            command: As it was written; its format is the machine's own.
            context: Index, time and randomness.

        Raises:
            CommandError: The command is refused, and nothing was changed.
        """
        raise CommandError("this machine takes no commands of this kind")

    def read(self, query: bytes, context: Context) -> Any:
        """Answer a read from the state, on the node that was asked. It must change nothing.

        The default takes a query for the name of an attribute, and returns a copy of that. What a `read` of
        your own returns may outlive the call: return values, and not parts of the state.

        Raises:
            CommandError: There is no answer to this.
        """
        name = query.decode("utf-8", "replace")
        value = None if name.startswith("_") else getattr(self, name, None)
        if value is None or callable(value):
            raise CommandError(f"this machine has no attribute {name!r} to be read")
        return copy.deepcopy(value)

    def snapshot(self) -> Iterable[bytes]:
        """Yield the whole state, in pieces of some MiB at most. Called between two commands.

        The default takes all attributes of the object, which must then be plain: None, bool, int of 64 bits,
        float, str, bytes, and lists and dicts of those. What is in two of them is restored as two.

        Raises:
            TypeError: An attribute is not plain; override `snapshot` and `restore` then.
        """
        for name, value in vars(self).items():
            _check_plain(value, name)
        state = msgspec.msgpack.encode(vars(self))
        for start in range(0, len(state), PIECE_BYTES):
            yield state[start : start + PIECE_BYTES]

    def restore(self, pieces: Iterable[bytes]) -> None:
        """Replace the whole state by that of a snapshot: the same pieces, in the same order.

        Called at a start, and after a command that raised, then on an object whose state is in any condition.
        """
        state = msgspec.msgpack.decode(b"".join(pieces), type=dict[str, Any])
        vars(self).clear()
        vars(self).update(state)


def _check_plain(value: object, name: str) -> None:
    kind = type(value)
    if kind is list:
        for element in value:  # type: ignore[attr-defined]
            _check_plain(element, name)
    elif kind is dict:
        for key, element in value.items():  # type: ignore[attr-defined]
            _check_plain(key, name)
            _check_plain(element, name)
    elif kind not in _PLAIN:
        raise TypeError(
            f"attribute {name} holds a {kind.__name__}, which a machine without snapshot() and restore() "
            "of its own cannot keep; use None, bool, int, float, str, bytes, and lists and dicts of those"
        )
