"""LOCAL commands: those on the connection and on the server, which never enter the log.

The server calls `execute` when nothing of the connection is in flight, so that they take their place in
the order of its commands: a SELECT holds for all that follows and for nothing before it.

One function per command, `fn(server, client, args) -> Reply`, with the views of `view.py`. Names, arities and
documentation are rows of the command table like everybody's.
"""

from collections.abc import Callable
from typing import Final

from respraft.resp.errors import ReplyError
from respraft.resp.replies import Reply
from respraft.server.local import client as client_commands
from respraft.server.local import cluster, command, config, connection, info, raft
from respraft.server.local.view import ClientView, Deferred, NoReply, ServerView

LocalFunction = Callable[[ServerView, ClientView, list[bytes]], Reply | NoReply | Deferred]

FUNCTIONS: Final[dict[bytes, LocalFunction]] = {
    **cluster.FUNCTIONS,
    **connection.FUNCTIONS,
    **client_commands.FUNCTIONS,
    **command.FUNCTIONS,
    **config.FUNCTIONS,
    **info.FUNCTIONS,
    **raft.FUNCTIONS,
}
"""By the name of the command's row: `PING`, `CLIENT|KILL`, `RAFT.STATUS`."""


def execute(server: ServerView, client: ClientView, args: list[bytes]) -> Reply | NoReply | Deferred:
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
