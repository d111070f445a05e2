"""RAFT LEADER, SNAPSHOT, STATUS, TRANSFER_LEADER and HELP, also spelled RAFT.LEADER and so on.

The names are those of RedisRaft and uhaha.
"""

from typing import Any, Final

from respraft.raft.message import NOBODY
from respraft.resp.errors import syntax_error, wrong_arity
from respraft.resp.replies import Reply
from respraft.server.local.cluster import CLUSTER_HELP, NODE_HELP
from respraft.server.local.help import help_reply
from respraft.server.local.view import ClientView, Deferred, MemberStatus, ServerView, SnapshotStatus
from respraft.server.local.words import node_id_of, split_words

_HELP: Final = (
    *CLUSTER_HELP,
    "LEADER",
    "    Return the client address of the leader, or nil while none is known. This is what this node",
    "    believes; the leader may have changed since.",
    *NODE_HELP,
    "SNAPSHOT NOW",
    "    Make the state of this node survive by itself and cut its log off behind it, but for what connected",
    "    followers still need. That happens by itself when raft.compact_bytes have gathered. OK when done.",
    "SNAPSHOT LIST",
    "    Return the states that this node keeps, the one in use first: up to which log entry it is durable,",
    "    its size, and to which nodes a picture of it is being sent.",
    "STATUS",
    "    Return the state of this node, and of the cluster as this node sees it. A member's match_index is",
    "    nil on nodes that do not lead. INFO raft says the same and more, for programs that parse INFO.",
    "TRANSFER_LEADER [<node-id>]",
    "    Hand leadership over to that node, or to the best of the others. To be asked of the leader. OK once",
    "    it leads; 'ERR transfer timed out' if that takes longer than an election timeout, and then the",
    "    leader goes on.",
)


def leader(server: ServerView, _client: ClientView, _args: list[bytes]) -> Reply:
    """RAFT.LEADER."""
    return _address(server.raft_status().leader_addr)


def status(server: ServerView, _client: ClientView, _args: list[bytes]) -> Reply:
    """RAFT.STATUS.

    A map. In RESP2 that is a flat list of names and values, and so is each member in it; redis-cli numbers
    the lines and indents the members.
    """
    node = server.raft_status()
    return {
        b"node_id": node.node_id,
        b"replaces": _node(node.replaces),
        b"cluster_id": node.cluster_id.encode(),
        b"state": node.state.encode("ascii"),
        b"role": node.role.encode("ascii"),
        b"term": node.term,
        b"leader_id": _node(node.leader_id),
        b"leader_addr": _address(node.leader_addr),
        b"voted_for": _node(node.voted_for),
        b"first_index": node.first_index,
        b"last_index": node.last_index,
        b"last_term": node.last_term,
        b"commit_index": node.commit_index,
        b"applied_index": node.applied_index,
        b"membership": node.membership.encode("ascii"),
        b"next_node_id": node.next_node_id,
        b"members": [_member(member) for member in node.members],
    }


def transfer_leader(server: ServerView, _client: ClientView, args: list[bytes]) -> Reply | Deferred:
    """RAFT.TRANSFER_LEADER [id]."""
    name, arguments = split_words(args)
    if len(arguments) > 1:
        raise wrong_arity(name)
    return server.transfer_leadership(node_id_of(arguments[0]) if arguments else NOBODY)


def snapshot(server: ServerView, _client: ClientView, args: list[bytes]) -> Reply | Deferred:
    """RAFT.SNAPSHOT NOW | LIST."""
    name, arguments = split_words(args)
    if len(arguments) != 1:
        raise wrong_arity(name)
    match arguments[0].upper():
        case b"NOW":
            return server.snapshot_now()
        case b"LIST":
            return [_snapshot(each) for each in server.snapshots()]
        case _:
            raise syntax_error()


def help_(_server: ServerView, _client: ClientView, _args: list[bytes]) -> Reply:
    """RAFT.HELP."""
    return help_reply("RAFT", _HELP)


def _snapshot(each: SnapshotStatus) -> dict[bytes, Any]:
    return {
        b"id": each.number,
        b"index": each.index,
        b"term": each.term,
        b"time_ms": each.time_ms,
        b"size": each.size_bytes,
        b"sent_to": list(each.sent_to),
    }


def _member(member: MemberStatus) -> dict[bytes, Any]:
    return {
        b"id": member.id,
        b"peer": member.peer.encode(),
        b"client": member.client.encode(),
        b"voter": member.voter,
        b"becoming": member.becoming.encode("ascii") or None,
        b"match_index": member.match_index,
        b"connected": member.connected,
    }


def _node(node_id: int) -> int | None:
    return None if node_id == NOBODY else node_id


def _address(address: str | None) -> bytes | None:
    return None if address is None else address.encode()


FUNCTIONS: Final = {
    b"RAFT|LEADER": leader,
    b"RAFT|SNAPSHOT": snapshot,
    b"RAFT|STATUS": status,
    b"RAFT|TRANSFER_LEADER": transfer_leader,
    b"RAFT|HELP": help_,
    b"RAFT.LEADER": leader,
    b"RAFT.SNAPSHOT": snapshot,
    b"RAFT.STATUS": status,
    b"RAFT.TRANSFER_LEADER": transfer_leader,
    b"RAFT.HELP": help_,
}
