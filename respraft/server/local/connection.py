"""PING, ECHO, AUTH, HELLO, SELECT, READONLY, READWRITE, QUIT, RESET and TIME."""

from typing import Final

from respraft.commands import echo as echo_commands
from respraft.commands.numbers import parse_int32, parse_int64
from respraft.commands.record import DATABASES
from respraft.resp.errors import ReplyError, database_out_of_range, quoted, syntax_error
from respraft.resp.replies import OK, RESP2, RESP3, Reply, SimpleString
from respraft.server.local.client import check_printable
from respraft.server.local.info import REDIS_VERSION
from respraft.server.local.view import REPLY_OFF, REPLY_ON, ClientView, FrontView, ServerView

_RESET: Final = SimpleString("RESET")


def ping(_server: FrontView, _client: ClientView, args: list[bytes]) -> Reply:
    """PING [message]."""
    return echo_commands.ping(None, args)


def echo(_server: FrontView, _client: ClientView, args: list[bytes]) -> Reply:
    """ECHO message."""
    return echo_commands.echo(None, args)


def auth(_server: FrontView, _client: ClientView, args: list[bytes]) -> Reply:
    """AUTH [username] password. There are no passwords: it is always refused."""
    if len(args) > 3:
        raise syntax_error()
    raise _no_password(args[1] if len(args) == 3 else b"default")


def hello(_server: FrontView, client: ClientView, args: list[bytes]) -> Reply:
    """HELLO [protover [AUTH username password] [SETNAME clientname]]. Nothing changes unless all is right."""
    protocol = _hello_protocol(args[1]) if len(args) > 1 else client.protocol
    name = client.name
    at = 2
    while at < len(args):
        option = args[at].lower()
        if option == b"auth" and at + 2 < len(args):
            raise _no_password(args[at + 1])
        if option != b"setname" or at + 1 == len(args):
            raise ReplyError("ERR", f"Syntax error in HELLO option '{quoted(args[at])}'")
        name = check_printable(args[at + 1], "Client names")
        at += 2
    client.protocol = protocol
    client.name = name
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode("ascii"),
        b"proto": protocol,
        b"id": client.id,
        b"mode": b"standalone",
        b"role": b"master",  # Of every node, since every node takes writes.
        b"modules": [],
    }


def select(_server: FrontView, client: ClientView, args: list[bytes]) -> Reply:
    """SELECT index."""
    index = parse_int32(args[1])
    if not 0 <= index < DATABASES:
        raise database_out_of_range()
    client.database = index
    return OK


def quit_(_server: FrontView, client: ClientView, _args: list[bytes]) -> Reply:
    """QUIT."""
    client.close_after_reply()
    return OK


def readonly(_server: FrontView, client: ClientView, _args: list[bytes]) -> Reply:
    """READONLY: reads of this connection may be a little old, and then need no word with the leader."""
    client.stale_reads = True
    return OK


def readwrite(_server: FrontView, client: ClientView, _args: list[bytes]) -> Reply:
    """READWRITE: reads of this connection are never stale, as they were at its beginning."""
    client.stale_reads = False
    return OK


def reset(_server: FrontView, client: ClientView, _args: list[bytes]) -> Reply:
    """RESET: as if newly connected, save for what SETINFO said, which is still true of the library."""
    client.protocol = RESP2
    client.database = 0
    client.name = b""
    client.stale_reads = False
    client.no_evict = False
    client.no_touch = False
    if client.reply_mode == REPLY_OFF:  # A SKIP is for the reply to this very command.
        client.reply_mode = REPLY_ON
    return _RESET


def time(server: ServerView, _client: ClientView, _args: list[bytes]) -> Reply:
    """TIME: seconds and microseconds."""
    seconds, milliseconds = divmod(server.wall_ms(), 1000)
    return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]


def _hello_protocol(text: bytes) -> int:
    try:
        protocol = parse_int64(text)
    except ReplyError:
        raise ReplyError("ERR", "Protocol version is not an integer or out of range") from None
    if protocol not in (RESP2, RESP3):
        raise ReplyError("NOPROTO", "unsupported protocol version")
    return protocol


def _no_password(username: bytes) -> ReplyError:
    # Redis lets the default user in with any password while none is set. Whoever sends one believes that
    # this server is protected, and should learn that it is not.
    if username == b"default":
        return ReplyError(
            "ERR",
            "AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?",
        )
    return ReplyError("WRONGPASS", "invalid username-password pair or user is disabled.")


FUNCTIONS: Final = {
    b"PING": ping,
    b"ECHO": echo,
    b"AUTH": auth,
    b"HELLO": hello,
    b"SELECT": select,
    b"READONLY": readonly,
    b"READWRITE": readwrite,
    b"QUIT": quit_,
    b"RESET": reset,
}
NODE_FUNCTIONS: Final = {b"TIME": time}
