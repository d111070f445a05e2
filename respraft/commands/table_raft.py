"""The rows of the commands on the cluster itself; `server/` executes them.

Each is there under two names: `RAFT.STATUS`, as RedisRaft has it, and `RAFT STATUS`.
"""

from typing import Any, Final

from respraft.commands.spec import LOCAL, OPTIONAL, Argument, CommandSpec, token

_SINCE: Final = "0.1.0"
_GROUP: Final = "raft"
_FLAGS: Final = ("noscript", "loading", "stale")
_ADMIN: Final = ("admin", "noscript", "loading", "stale")
# Word, summary, complexity; and flags and arguments where they are not the usual ones.
_COMMANDS: Final[tuple[tuple[Any, ...], ...]] = (
    (
        "CLUSTER",
        "Found a cluster of this node, or join another one",
        "O(1) for INIT; JOIN waits until this node has caught up",
        _ADMIN,
        (
            Argument(
                "operation",
                "oneof",
                parts=(
                    Argument(
                        "init",
                        "block",
                        parts=(
                            token("INIT"),
                            Argument("cluster-id", "string", flags=OPTIONAL),
                        ),
                    ),
                    Argument(
                        "join",
                        "block",
                        parts=(
                            token("JOIN"),
                            Argument("address", "string", flags=("multiple",)),
                            Argument("node-id", "integer", "ID", flags=OPTIONAL),
                            token("LEARNER", optional=True),
                        ),
                    ),
                ),
            ),
        ),
    ),
    ("HELP", "Show helpful text about the different subcommands", "O(1)"),
    ("LEADER", "Get the client address of the leader, or nil when none is known", "O(1)"),
    (
        "NODE",
        "Add, list, move, promote and remove members of the cluster",
        "O(N) where N is the number of members; waits for the change",
        _ADMIN,
        (
            Argument("operation", "string"),
            Argument("node-id", "integer", flags=OPTIONAL),
            Argument("address", "string", flags=(*OPTIONAL, "multiple")),
        ),
    ),
    (
        "SERVER",
        "List the members of the cluster",
        "O(N) where N is the number of members",
        _FLAGS,
        (token("LIST"),),
    ),
    (
        "SNAPSHOT",
        "Flush the state and cut the log off behind it, or list the states that this node keeps",
        "O(N) where N is what was written since the last flush",
        _ADMIN,
        (Argument("action", "oneof", parts=(token("NOW"), token("LIST"))),),
    ),
    (
        "STATUS",
        "Get the state of this node and of the cluster as it sees it",
        "O(N) where N is the number of members",
    ),
    (
        "TRANSFER_LEADER",
        "Hand leadership over to a node, or to the best one",
        "O(1); waits for the new leader, an election timeout at most",
        _ADMIN,
        (Argument("node-id", "integer", flags=OPTIONAL),),
    ),
)


def _row(
    name: str,
    words: int,
    summary: str,
    complexity: str,
    flags: tuple[str, ...] = _FLAGS,
    arguments: tuple[Argument, ...] = (),
) -> CommandSpec:
    """Return a row whose name is `words` words long. Who takes arguments checks their number himself."""
    return CommandSpec(
        name=name.encode(),
        arity=-words if arguments else words,
        kind=LOCAL,
        flags=flags,
        summary=summary,
        since=_SINCE,
        group=_GROUP,
        complexity=complexity,
        arguments=arguments,
    )


def _rows(prefix: str, words: int) -> tuple[CommandSpec, ...]:
    return tuple(_row(prefix + word, words, *rest) for word, *rest in _COMMANDS)


RAFT_COMMANDS: Final = (
    CommandSpec(
        name=b"RAFT",
        arity=-2,
        kind=LOCAL,
        summary="A container for cluster commands",
        since=_SINCE,
        group=_GROUP,
        complexity="Depends on subcommand.",
        subcommands=_rows("RAFT|", words=2),
    ),
    *_rows("RAFT.", words=1),
)
