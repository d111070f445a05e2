"""CLIENT: connections about themselves and each other."""

from collections.abc import Callable, Collection
from typing import Final

from respraft.commands.numbers import INT64_MAX, INT64_MIN, parse_int64_within
from respraft.resp.errors import ReplyError, quoted, syntax_error
from respraft.resp.replies import OK, Reply, Verbatim
from respraft.server.local.help import help_reply
from respraft.server.local.view import (
    NO_REPLY,
    REPLY_OFF,
    REPLY_ON,
    REPLY_SKIP,
    ClientView,
    FrontView,
    NoReply,
    ServerView,
)

# Whether one connection is among those that are meant.
Filter = Callable[[ClientView], bool]

_TYPES: Final = (b"normal", b"slave", b"replica", b"pubsub", b"master")
_USERS: Final = (b"default",)

_HELP: Final = (
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR <ip:port>",
    "      Kill connections made from the specified address",
    "    * LADDR <ip:port>",
    "      Kill connections made to specified local address",
    "    * ID <client-id>",
    "      Kill connections by client id.",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <client-id> [<client-id> ...]",
    "      Return clients of specified IDs only.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
)


def id_(_server: FrontView, client: ClientView, _args: list[bytes]) -> Reply:
    """CLIENT ID."""
    return client.id


def getname(_server: FrontView, client: ClientView, _args: list[bytes]) -> Reply:
    """CLIENT GETNAME."""
    return client.name or None


def setname(_server: FrontView, client: ClientView, args: list[bytes]) -> Reply:
    """CLIENT SETNAME connection-name. An empty one takes the name away."""
    client.name = check_printable(args[2], "Client names")
    return OK


def setinfo(_server: FrontView, client: ClientView, args: list[bytes]) -> Reply:
    """CLIENT SETINFO LIB-NAME libname | LIB-VER libver."""
    option = args[2].lower()
    if option == b"lib-name":
        client.lib_name = check_printable(args[3], "lib-name")
    elif option == b"lib-ver":
        client.lib_version = check_printable(args[3], "lib-ver")
    else:
        raise ReplyError("ERR", f"Unrecognized option '{quoted(args[2])}'")
    return OK


def info(server: FrontView, client: ClientView, _args: list[bytes]) -> Reply:
    """CLIENT INFO: the caller's line of CLIENT LIST."""
    return Verbatim("txt", _line(server, client, "client|info"))


def list_(server: ServerView, client: ClientView, args: list[bytes]) -> Reply:
    """CLIENT LIST [TYPE type | ID id [id ...]]."""
    listed = _listed(server, args)
    return Verbatim(
        "txt",
        b"".join(
            _line(server, each, "client|list" if each is client else _command_name(server, each))
            for each in listed
        ),
    )


def kill(server: ServerView, client: ClientView, args: list[bytes]) -> Reply:
    """CLIENT KILL ip:port | option value [option value ...]."""
    if len(args) == 3:
        if not _kill_all(server, client, [_by_address(args[2])]):
            raise ReplyError("ERR", "No such client")
        return OK
    filters: dict[bytes, Filter] = {}  # By option: one that is given twice counts as it was given last.
    spares_caller = True
    for at in range(2, len(args), 2):
        option = args[at].lower()
        if at + 1 == len(args):
            raise syntax_error()
        if option == b"skipme":
            spares_caller = _one_of(args[at + 1], b"yes", b"no") == b"yes"
        else:
            filters[option] = _kill_filter(option, args[at + 1])
    if spares_caller:
        filters[b"skipme"] = lambda each: each is not client
    return _kill_all(server, client, filters.values())


def no_evict(_server: FrontView, client: ClientView, args: list[bytes]) -> Reply:
    """CLIENT NO-EVICT ON | OFF. Clients are never evicted here, so this is but a flag in CLIENT LIST."""
    client.no_evict = _one_of(args[2], b"on", b"off") == b"on"
    return OK


def no_touch(_server: FrontView, client: ClientView, args: list[bytes]) -> Reply:
    """CLIENT NO-TOUCH ON | OFF. Keys have no access times here, so this is but a flag in CLIENT LIST."""
    client.no_touch = _one_of(args[2], b"on", b"off") == b"on"
    return OK


def reply(_server: FrontView, client: ClientView, args: list[bytes]) -> Reply | NoReply:
    """CLIENT REPLY ON | OFF | SKIP."""
    mode = _one_of(args[2], b"on", b"off", b"skip")
    if mode == b"on":
        client.reply_mode = REPLY_ON
        return OK
    if mode == b"off":
        client.reply_mode = REPLY_OFF
    elif client.reply_mode != REPLY_OFF:
        client.reply_mode = REPLY_SKIP
    return NO_REPLY


def help_(_server: FrontView, _client: ClientView, _args: list[bytes]) -> Reply:
    """CLIENT HELP."""
    return help_reply("CLIENT", _HELP)


def check_printable(word: bytes, what: str) -> bytes:
    """Return `word` if it can stand in CLIENT LIST: no spaces, line ends or bytes beyond ASCII.

    Raises:
        ReplyError: It can't; `what` begins the sentence.
    """
    if any(not ord("!") <= byte <= ord("~") for byte in word):
        raise ReplyError("ERR", f"{what} cannot contain spaces, newlines or special characters.")
    return word


def _listed(server: ServerView, args: list[bytes]) -> list[ClientView]:
    """Return those that CLIENT LIST is asked for; by id in the order in which the ids stand, as in Redis."""
    clients = server.clients()
    if len(args) == 2:
        return list(clients)
    option = args[2].lower()
    if option == b"type" and len(args) == 4:
        return list(filter(_by_type(args[3]), clients))
    if option == b"id" and len(args) > 3:
        ids = [_client_id(word, INT64_MIN, "Invalid client ID") for word in args[3:]]
        by_id = {each.id: each for each in clients}
        return [by_id[id_] for id_ in ids if id_ in by_id]
    raise syntax_error()


def _kill_filter(option: bytes, value: bytes) -> Filter:
    if option == b"id":
        id_ = _client_id(value, 1, "client-id should be greater than 0")
        return lambda each: each.id == id_
    if option == b"type":
        return _by_type(value)
    if option == b"addr":
        return _by_address(value)
    if option == b"laddr":
        return _by_local_address(value)
    if option == b"user":
        if value not in _USERS:
            raise ReplyError("ERR", f"No such user '{quoted(value)}'")
        return lambda _each: True
    raise syntax_error()


def _by_type(name: bytes) -> Filter:
    if name.lower() not in _TYPES:
        raise ReplyError("ERR", f"Unknown client type '{quoted(name)}'")
    is_normal = name.lower() == b"normal"
    return lambda _each: is_normal


def _by_address(address: bytes) -> Filter:
    return lambda each: each.address.encode() == address


def _by_local_address(address: bytes) -> Filter:
    return lambda each: each.local_address.encode() == address


def _kill_all(server: ServerView, client: ClientView, filters: Collection[Filter]) -> int:
    """Kill the connections that pass all filters; return how many. The caller gets its reply first."""
    killed = 0
    for each in server.clients():
        if not all(matches(each) for matches in filters):
            continue
        killed += 1
        if each is client:
            client.close_after_reply()
        else:
            server.kill(each)
    return killed


def _line(server: FrontView, client: ClientView, command: str) -> bytes:
    """Return one line of CLIENT LIST: Redis's fields in Redis's order, then those of newer Redis."""
    held = (("r", client.stale_reads), ("e", client.no_evict), ("T", client.no_touch))
    flags = "".join(flag for flag, is_set in held if is_set)
    fields: dict[str, str | int] = {
        "id": client.id,
        "addr": client.address,
        "laddr": client.local_address,
        "fd": -1,
        "name": client.name.decode("ascii"),
        "age": _seconds(server.now_ms - client.created_ms),
        "idle": _seconds(server.now_ms - client.last_active_ms),
        "flags": flags or "N",
        "db": client.database,
        "sub": 0,
        "psub": 0,
        "ssub": 0,
        "multi": -1,
        "qbuf": client.query_bytes,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": 0,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": 0,
        "omem": client.output_bytes,
        "tot-mem": client.query_bytes + client.output_bytes,
        "events": "r",
        "cmd": command,
        "user": "default",
        "redir": -1,
        "resp": client.protocol,
        "lib-name": client.lib_name.decode("ascii"),
        "lib-ver": client.lib_version.decode("ascii"),
        "tot-cmds": client.commands_total,
    }
    return (" ".join(f"{name}={value}" for name, value in fields.items()) + "\n").encode()


def _command_name(server: FrontView, client: ClientView) -> str:
    # Looked up, since what the client sent could hold anything, a line end for instance.
    spec = server.table.lookup(client.last_command)
    return "NULL" if spec is None else spec.full_name


def _seconds(duration_ms: float) -> int:
    return int(max(duration_ms, 0) // 1000)


def _client_id(word: bytes, least: int, refusal: str) -> int:
    try:
        return parse_int64_within(word, least, INT64_MAX)
    except ReplyError:
        raise ReplyError("ERR", refusal) from None


def _one_of(word: bytes, *choices: bytes) -> bytes:
    if word.lower() not in choices:
        raise syntax_error()
    return word.lower()


FUNCTIONS: Final = {
    b"CLIENT|ID": id_,
    b"CLIENT|GETNAME": getname,
    b"CLIENT|SETNAME": setname,
    b"CLIENT|SETINFO": setinfo,
    b"CLIENT|INFO": info,
    b"CLIENT|NO-EVICT": no_evict,
    b"CLIENT|NO-TOUCH": no_touch,
    b"CLIENT|REPLY": reply,
    b"CLIENT|HELP": help_,
}
NODE_FUNCTIONS: Final = {
    b"CLIENT|LIST": list_,
    b"CLIENT|KILL": kill,
}
