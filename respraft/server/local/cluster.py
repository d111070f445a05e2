"""RAFT.CLUSTER, RAFT.NODE and RAFT.SERVER: who belongs to the cluster, and changes of it.

Names, replies and errors are RedisRaft's where it has the command: INIT, JOIN, ADD, REMOVE; RAFT SERVER LIST
is uhaha's.
"""

from typing import Any, Final

from respraft.config import ConfigError, parse_address
from respraft.raft.configuration import Member
from respraft.raft.message import NOBODY, NodeId
from respraft.replica.admin import ChangeDone
from respraft.replica.changes import AddMember, MoveMember, PromoteMember, RemoveMember
from respraft.resp.errors import ReplyError, syntax_error, wrong_arity
from respraft.resp.replies import OK, Reply
from respraft.server.local.view import ClientView, Deferred, MemberStatus, ServerView
from respraft.server.local.words import node_id_of, split_words

CLUSTER_HELP: Final = (
    "CLUSTER INIT [<cluster-id>]",
    "    Found a cluster of this node alone. 'OK <cluster-id>'; without one a random id is made.",
    "CLUSTER JOIN <host:port> [<host:port> ...] [ID <node-id>] [LEARNER]",
    "    Join the cluster of a member, any of whose client addresses will do. OK when this node has caught",
    "    up with it and votes; with LEARNER it receives everything and has no vote.",
)
NODE_HELP: Final = (
    "NODE ADD <node-id>|0 <host:port> [LEARNER]",
    "    Have the node whose clients are served at that address join; 0 chooses an id that was never used.",
    "    Returns the node's id and the cluster's.",
    "NODE LIST",
    "    Return the members: id, addresses, role, whether linked, and on the leader how far their log is.",
    "NODE MOVE <node-id> <peer host:port> [<client host:port>]",
    "    A node has other addresses from now on.",
    "NODE PROMOTE <node-id>",
    "    Give a learner a vote. It must have caught up.",
    "NODE REMOVE <node-id>",
    "    Remove a node for good; its id is never used again. Also ends waiting for a node to catch up.",
    "SERVER LIST",
    "    Return id, client address, role and voter of each member.",
)


def cluster(server: ServerView, _client: ClientView, args: list[bytes]) -> Reply | Deferred:
    """RAFT.CLUSTER INIT | JOIN."""
    name, words = split_words(args)
    word, rest = _subcommand(name, words)
    if word == "INIT":
        if len(rest) > 1:
            raise wrong_arity(f"{name}|init")
        return server.cluster.found(_text(rest[0]) if rest else "")
    if word == "JOIN":
        rest, options = _options(rest, {b"ID": 1, b"LEARNER": 0})
        if not rest:
            raise wrong_arity(f"{name}|join")
        node_id = node_id_of(options[b"ID"][0]) if b"ID" in options else NOBODY
        addresses = [_address(each) for each in rest]
        return server.cluster.join(addresses, node_id, voter=b"LEARNER" not in options)
    raise _unknown(name, word)


def node(server: ServerView, client: ClientView, args: list[bytes]) -> Reply | Deferred:
    """RAFT.NODE ADD | LIST | MOVE | PROMOTE | REMOVE."""
    name, words = split_words(args)
    word, rest = _subcommand(name, words)
    if word == "ADD":
        return _add(server, name, rest)
    if word == "LIST" and not rest:
        return [_member_row(server, member) for member in server.raft_status().members]
    if word == "MOVE" and len(rest) in (2, 3):
        peer, moved_client = _address(rest[1]), _address(rest[2]) if len(rest) > 2 else ""
        return server.cluster.change(MoveMember(node_id_of(rest[0]), peer, moved_client), _ok)
    if word == "PROMOTE" and len(rest) == 1:
        return server.cluster.change(PromoteMember(node_id_of(rest[0])), _ok)
    if word == "REMOVE" and len(rest) == 1:
        return server.cluster.change(RemoveMember(node_id_of(rest[0])), _ok)
    if word in ("LIST", "MOVE", "PROMOTE", "REMOVE"):
        raise wrong_arity(f"{name}|{word.lower()}")
    raise _unknown(name, word)


def server_list(server: ServerView, _client: ClientView, args: list[bytes]) -> Reply:
    """RAFT SERVER LIST."""
    name, words = split_words(args)
    word, rest = _subcommand(name, words)
    if word != "LIST" or rest:
        raise _unknown(name, word)
    status = server.raft_status()
    return [
        {
            b"id": member.id,
            b"address": member.client.encode(),
            b"leader": member.id == status.leader_id,
            b"voter": member.voter,
        }
        for member in status.members
    ]


def _add(server: ServerView, name: str, rest: list[bytes]) -> Deferred:
    """ADD id|0 client, by an operator; ADD id|0 peer client INCARNATION hex, by the joining node itself."""
    rest, options = _options(rest, {b"INCARNATION": 1, b"REPLACES": 1, b"LEARNER": 0})
    if len(rest) != (3 if b"INCARNATION" in options else 2):
        raise wrong_arity(f"{name}|add")
    node_id = NOBODY if rest[0] == b"0" else node_id_of(rest[0])
    voter = b"LEARNER" not in options
    if b"INCARNATION" not in options:
        return server.cluster.invite(_address(rest[1]), node_id, voter=voter)
    member = Member(
        node_id, _address(rest[1]), _address(rest[2]), _incarnation(options[b"INCARNATION"][0]), voter
    )
    replaces = node_id_of(options[b"REPLACES"][0]) if b"REPLACES" in options else NOBODY
    cluster_id = server.raft_status().cluster_id.encode()

    def added(done: ChangeDone) -> Reply:
        return [done.node_id, cluster_id]

    return server.cluster.change(AddMember(member, replaces), added)


def _member_row(server: ServerView, member: MemberStatus) -> dict[bytes, Any]:
    return {
        b"id": member.id,
        b"peer": member.peer.encode(),
        b"client": member.client.encode(),
        b"role": _role(member, server.raft_status().leader_id),
        b"becoming": member.becoming.encode() or None,
        b"match_index": member.match_index,
        b"connected": member.connected,
    }


def _role(member: MemberStatus, leader_id: NodeId) -> bytes:
    if member.id == leader_id:
        return b"leader"
    return b"voter" if member.voter else b"learner"


def _ok(_done: ChangeDone) -> Reply:
    return OK


def _subcommand(name: str, words: list[bytes]) -> tuple[str, list[bytes]]:
    if not words:
        raise wrong_arity(name)
    return _text(words[0]).upper(), words[1:]


def _unknown(name: str, word: str) -> ReplyError:
    return ReplyError("ERR", f"unknown subcommand '{word[:32]}' of {name}. Try RAFT.HELP.")


def _options(words: list[bytes], known: dict[bytes, int]) -> tuple[list[bytes], dict[bytes, list[bytes]]]:
    """Part the options from the other words: each is there once, with so many words behind it."""
    rest: list[bytes] = []
    options: dict[bytes, list[bytes]] = {}
    place = 0
    while place < len(words):
        option = words[place].upper()
        place += 1
        if option not in known:
            rest.append(words[place - 1])
            continue
        end = place + known[option]
        if option in options or end > len(words):
            raise syntax_error()
        options[option] = words[place:end]
        place = end
    return rest, options


def _incarnation(word: bytes) -> int:
    try:
        number = int(word, 16)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 64:
        raise ReplyError("ERR", "invalid incarnation")
    return number


def _address(word: bytes) -> str:
    text = _text(word)
    try:
        parse_address(text)
    except ConfigError as error:
        raise ReplyError("ERR", f"invalid node address: {error}") from error
    return text


def _text(word: bytes) -> str:
    return word.decode("ascii", "replace")


FUNCTIONS: Final = {
    b"RAFT|CLUSTER": cluster,
    b"RAFT|NODE": node,
    b"RAFT|SERVER": server_list,
    b"RAFT.CLUSTER": cluster,
    b"RAFT.NODE": node,
    b"RAFT.SERVER": server_list,
}
