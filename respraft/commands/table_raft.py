"""The rows of the commands on the cluster itself; `server/` executes them.

Each is there under two names: `RAFT.STATUS`, as RedisRaft has it, and `RAFT STATUS`.
"""

from typing import Final

from respraft.commands.spec import LOCAL, CommandSpec

_SINCE: Final = "0.1.0"
_GROUP: Final = "raft"
_FLAGS: Final = ("noscript", "loading", "stale")
# Word, summary, complexity.
_COMMANDS: Final = (
    ("HELP", "Show helpful text about the different subcommands", "O(1)"),
    ("LEADER", "Get the client address of the leader, or nil when none is known", "O(1)"),
    (
        "STATUS",
        "Get the state of this node and of the cluster as it sees it",
        "O(N) where N is the number of members",
    ),
)


def _rows(prefix: str, arity: int) -> tuple[CommandSpec, ...]:
    return tuple(
        CommandSpec(
            name=f"{prefix}{word}".encode(),
            arity=arity,
            kind=LOCAL,
            flags=_FLAGS,
            summary=summary,
            since=_SINCE,
            group=_GROUP,
            complexity=complexity,
        )
        for word, summary, complexity in _COMMANDS
    )


RAFT_COMMANDS: Final = (
    CommandSpec(
        name=b"RAFT",
        arity=-2,
        kind=LOCAL,
        summary="A container for cluster commands",
        since=_SINCE,
        group=_GROUP,
        complexity="Depends on subcommand.",
        subcommands=_rows("RAFT|", arity=2),
    ),
    *_rows("RAFT.", arity=1),
)
