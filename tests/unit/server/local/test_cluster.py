"""RAFT.CLUSTER, RAFT.NODE and RAFT.SERVER: what is asked for, in either spelling, and what is refused."""

from dataclasses import replace

import pytest

from respraft.raft.configuration import Member
from respraft.replica.changes import AddMember, MoveMember, PromoteMember, RemoveMember
from respraft.resp.errors import ReplyError
from respraft.resp.replies import OK, Reply
from respraft.server.local.view import Deferred
from tests.unit.server.local.fakes import STATUS, FakeServer, member


def resolved(reply: object) -> Reply:
    """What a deferred reply has become."""
    assert isinstance(reply, Deferred)
    replies: list[Reply] = []
    reply.when_resolved(replies.append)
    return replies[0]


@pytest.mark.parametrize("spelling", [b"RAFT.", b"raft ", b"Raft."])
def test_init_and_join(spelling: bytes) -> None:
    server = FakeServer()
    assert server.run(spelling + b"CLUSTER INIT") == OK
    assert server.run(spelling + b"cluster init demo-2") == OK
    server.run(spelling + b"CLUSTER JOIN 10.0.0.1:7001 10.0.0.2:7001")
    server.run(spelling + b"CLUSTER JOIN 10.0.0.1:7001 id 7 learner")
    assert server.cluster.asked == [
        ("found", ""),
        ("found", "demo-2"),
        ("join", ["10.0.0.1:7001", "10.0.0.2:7001"], 0, True),
        ("join", ["10.0.0.1:7001"], 7, False),
    ]


@pytest.mark.parametrize("spelling", [b"RAFT.", b"raft "])
def test_changes(spelling: bytes) -> None:
    server = FakeServer()
    assert resolved(server.run(spelling + b"NODE REMOVE 2")) == OK
    assert resolved(server.run(spelling + b"NODE PROMOTE 3")) == OK
    assert resolved(server.run(spelling + b"NODE MOVE 3 h:1")) == OK
    assert resolved(server.run(spelling + b"NODE MOVE 3 h:1 h:2")) == OK
    added = server.run(spelling + b"NODE ADD 0 h:1 h:2 INCARNATION ff")
    assert resolved(added) == [4, b"demo"]
    server.run(spelling + b"NODE ADD 9 h:1 h:2 LEARNER INCARNATION ff REPLACES 3")
    assert [asked[1] for asked in server.cluster.asked] == [
        RemoveMember(2),
        PromoteMember(3),
        MoveMember(3, "h:1", ""),
        MoveMember(3, "h:1", "h:2"),
        AddMember(Member(0, "h:1", "h:2", 255, True)),
        AddMember(Member(9, "h:1", "h:2", 255, False), 3),
    ]


def test_an_operator_adds_a_node_by_its_client_address() -> None:
    server = FakeServer()
    server.run(b"RAFT.NODE ADD 0 10.0.0.4:7001")
    server.run(b"RAFT.NODE ADD 7 10.0.0.4:7001 learner")
    assert server.cluster.asked == [
        ("invite", "10.0.0.4:7001", 0, True),
        ("invite", "10.0.0.4:7001", 7, False),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"RAFT.CLUSTER", "wrong number of arguments for 'raft.cluster' command"),
        (b"RAFT CLUSTER", "wrong number of arguments for 'raft|cluster' command"),
        (b"RAFT.CLUSTER INIT a b", "wrong number of arguments"),
        (b"RAFT.CLUSTER JOIN", "wrong number of arguments"),
        (b"RAFT.CLUSTER JOIN nowhere", "invalid node address"),
        (b"RAFT.CLUSTER JOIN h:1 ID", "syntax error"),
        (b"RAFT.CLUSTER LEAVE", "unknown subcommand 'LEAVE'"),
        (b"RAFT.NODE REMOVE two", "invalid node id"),
        (b"RAFT.NODE REMOVE 0", "invalid node id"),
        (b"RAFT.NODE REMOVE", "wrong number of arguments"),
        (b"RAFT.NODE ADD 4", "wrong number of arguments"),
        (b"RAFT.NODE ADD x h:1", "invalid node id"),
        (b"RAFT.NODE ADD 4 h:1 h:2", "wrong number of arguments"),
        (b"RAFT.NODE ADD 4 h:1 h:2 INCARNATION xyz", "invalid incarnation"),
        (b"RAFT.NODE MOVE 4 h", "invalid node address"),
        (b"RAFT.NODE SHOW", "unknown subcommand 'SHOW'"),
        (b"RAFT.SERVER ADD", "unknown subcommand 'ADD'"),
    ],
)
def test_refusals(line: bytes, said: str) -> None:
    server = FakeServer()
    reply = server.run(line)
    assert isinstance(reply, ReplyError) and reply.code == "ERR"
    assert said in reply.text
    assert server.cluster.asked == []


def test_lists() -> None:
    learner = replace(member(4), voter=False, becoming="voter")
    server = FakeServer(status=replace(STATUS, members=(member(1), learner)))
    rows = server.run(b"RAFT.NODE LIST")
    assert isinstance(rows, list)
    assert rows[0] == {
        b"id": 1,
        b"peer": b"127.0.0.1:7101",
        b"client": b"127.0.0.1:7001",
        b"role": b"leader",
        b"becoming": None,
        b"match_index": 41,
        b"connected": True,
    }
    assert (rows[1][b"role"], rows[1][b"becoming"]) == (b"learner", b"voter")
    servers = server.run(b"RAFT SERVER LIST")
    assert isinstance(servers, list)
    assert servers[1] == {b"id": 4, b"address": b"127.0.0.1:7004", b"leader": False, b"voter": False}
