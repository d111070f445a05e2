"""PING and ECHO: replies that depend on nothing but the command.

They are LOCAL, so that a node without a leader answers them. Unlike other LOCAL commands they neither change
nor ask about the connection, so they may also take their place in a group of reads and writes: a
pipeline need not be interrupted for them.
"""

from respraft.commands.context import Context
from respraft.resp.errors import wrong_arity
from respraft.resp.replies import PONG, Reply


def ping(_ctx: Context | None, args: list[bytes]) -> Reply:
    """PING [message]."""
    if len(args) == 1:
        return PONG
    if len(args) == 2:
        return args[1]
    raise wrong_arity("ping")  # The table's row, as Redis has it, gives no upper bound.


def echo(_ctx: Context | None, args: list[bytes]) -> Reply:
    """ECHO message."""
    return args[1]
