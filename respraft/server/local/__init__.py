"""LOCAL commands: those on the connection and on the server, which never enter the log.

The server calls `execute` when nothing of the connection is in flight, so that they take their place in
the order of its commands: a SELECT holds for all that follows and for nothing before it.

One function per command, `fn(server, client, args) -> Reply`, with the views of `view.py`. Names, arities and
documentation are rows of the command table like everybody's.

Most are about the connection alone. They run wherever that is served, which may be a process without a node
(`server/workers/`); the others run in the node's.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply
from respraft.server.local import client as client_commands
from respraft.server.local import cluster, command, config, connection, info, raft
from respraft.server.local.view import ClientView, Deferred, FrontView, NoReply, ServerView

LocalReply: TypeAlias = Reply | NoReply | Deferred
ConnectionFunction: TypeAlias = Callable[[FrontView, ClientView, list[bytes]], LocalReply]
NodeFunction: TypeAlias = Callable[[ServerView, ClientView, list[bytes]], LocalReply]

CONNECTION_FUNCTIONS: Final[dict[bytes, ConnectionFunction]] = {
    **connection.FUNCTIONS,
    **client_commands.FUNCTIONS,
    **command.FUNCTIONS,
}
"""By the name of the command's row: `PING`, `CLIENT|ID`. They need nothing of the node."""

FUNCTIONS: Final[dict[bytes, NodeFunction]] = {
    **CONNECTION_FUNCTIONS,
    **connection.NODE_FUNCTIONS,
    **client_commands.NODE_FUNCTIONS,
    **cluster.FUNCTIONS,
    **config.FUNCTIONS,
    **info.FUNCTIONS,
    **raft.FUNCTIONS,
}
"""All of them: also `CLIENT|KILL`, `RAFT.STATUS`."""


def execute(server: ServerView, client: ClientView, args: list[bytes]) -> LocalReply:
    """Run a LOCAL command and return its reply, or what it will come by; a refusal is returned, not raised.

    The reply is to be encoded in `client.protocol` as it is afterwards.
    """
    spec = server.table.check(args)
    if isinstance(spec, ReplyError):
        return spec
    try:
        return FUNCTIONS[spec.name](server, client, args)
    except ReplyError as error:
        return error


def execute_without_node(
    front: FrontView, client: ClientView, args: list[bytes], ask_node: Callable[[], Deferred]
) -> LocalReply:
    """The same in a process without a node: `ask_node` is called for what only that one can answer."""
    spec = front.table.check(args)
    if isinstance(spec, ReplyError):
        return spec
    function = CONNECTION_FUNCTIONS.get(spec.name)
    try:
        return ask_node() if function is None else function(front, client, args)
    except ReplyError as error:
        return error
