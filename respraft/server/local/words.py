"""Words of the RAFT commands, which are spelled in two ways: RAFT.NODE and RAFT NODE."""

from respraft.raft.message import NodeId
from respraft.resp.errors import ReplyError


def split_words(args: list[bytes]) -> tuple[str, list[bytes]]:
    """Return the command's name, as errors have it, and its arguments, in either spelling."""
    if args[0].upper() == b"RAFT":
        return f"raft|{args[1].decode().lower()}", args[2:]
    return args[0].decode().lower(), args[1:]


def node_id_of(word: bytes) -> NodeId:
    """Return a node id, or raise RedisRaft's refusal."""
    if not (word.isdigit() and 0 < int(word[:11]) < 1 << 31):
        raise ReplyError("ERR", "invalid node id")
    return int(word)
