"""RAFT LEADER, RAFT STATUS and RAFT HELP, also spelled RAFT.LEADER and so on, as in RedisRaft."""

from typing import Any, Final

from respraft.raft.message import NOBODY
from respraft.resp.replies import Reply
from respraft.server.local.help import help_reply
from respraft.server.local.view import ClientView, MemberStatus, ServerView

_HELP: Final = (
    "LEADER",
    "    Return the client address of the leader, or nil while none is known. This is what this node",
    "    believes; the leader may have changed since.",
    "STATUS",
    "    Return the state of this node, and of the cluster as this node sees it. A member's match_index is",
    "    nil on nodes that do not lead. INFO raft says the same and more, for programs that parse INFO.",
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
        b"members": [_member(member) for member in node.members],
    }


def help_(_server: ServerView, _client: ClientView, _args: list[bytes]) -> Reply:
    """RAFT.HELP."""
    return help_reply("RAFT", _HELP)


def _member(member: MemberStatus) -> dict[bytes, Any]:
    return {
        b"id": member.id,
        b"peer": member.peer.encode(),
        b"client": member.client.encode(),
        b"voter": member.voter,
        b"match_index": member.match_index,
        b"connected": member.connected,
    }


def _node(node_id: int) -> int | None:
    return None if node_id == NOBODY else node_id


def _address(address: str | None) -> bytes | None:
    return None if address is None else address.encode()


FUNCTIONS: Final = {
    b"RAFT|LEADER": leader,
    b"RAFT|STATUS": status,
    b"RAFT|HELP": help_,
    b"RAFT.LEADER": leader,
    b"RAFT.STATUS": status,
    b"RAFT.HELP": help_,
}
