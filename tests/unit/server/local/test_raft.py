"""RAFT.LEADER and RAFT.STATUS, under both of their spellings."""

from dataclasses import replace

import pytest

from respraft.raft.ready import Role
from respraft.resp.replies import OK, RESP3, encode
from respraft.server.local.view import NodeState
from tests.unit.server.local.fakes import STATUS, FakeServer, member


@pytest.mark.parametrize("line", [b"RAFT.LEADER", b"RAFT LEADER", b"raft leader"])
def test_leader(line: bytes) -> None:
    assert FakeServer().run(line) == b"127.0.0.1:7001"
    assert FakeServer(status=replace(STATUS, leader_id=0, leader_addr=None)).run(line) is None


@pytest.mark.parametrize("line", [b"RAFT.STATUS", b"RAFT STATUS", b"raft.status"])
def test_status(line: bytes) -> None:
    assert FakeServer(status=replace(STATUS, members=(member(2),))).run(line) == {
        b"node_id": 1,
        b"replaces": None,
        b"cluster_id": b"demo",
        b"state": b"up",
        b"role": b"leader",
        b"term": 3,
        b"leader_id": 1,
        b"leader_addr": b"127.0.0.1:7001",
        b"voted_for": 1,
        b"first_index": 1,
        b"last_index": 42,
        b"last_term": 3,
        b"commit_index": 41,
        b"applied_index": 40,
        b"membership": b"settled",
        b"next_node_id": 4,
        b"members": [
            {
                b"id": 2,
                b"peer": b"127.0.0.1:7102",
                b"client": b"127.0.0.1:7002",
                b"voter": True,
                b"becoming": None,
                b"match_index": 42,
                b"connected": True,
            }
        ],
    }


def test_what_is_not_known_is_nil() -> None:
    server = FakeServer(
        status=replace(
            STATUS,
            state=NodeState.JOINING,
            role=Role.PRE_CANDIDATE,
            leader_id=0,
            leader_addr=None,
            voted_for=0,
            members=(replace(member(2), match_index=None),),
        )
    )
    status = server.run(b"RAFT.STATUS")
    assert isinstance(status, dict)
    assert status[b"leader_id"] is status[b"leader_addr"] is status[b"voted_for"] is None
    assert status[b"members"][0][b"match_index"] is None
    assert (status[b"state"], status[b"role"]) == (b"joining", b"pre-candidate")


def test_status_is_a_map_in_resp3_and_names_with_values_in_resp2() -> None:
    server = FakeServer(status=replace(STATUS, members=(member(2),)))
    assert server.wire(b"RAFT.STATUS").startswith(b"*34\r\n$7\r\nnode_id\r\n:1\r\n")
    assert server.wire(b"RAFT.STATUS").endswith(
        b"$7\r\nmembers\r\n*1\r\n*14\r\n$2\r\nid\r\n:2\r\n$4\r\npeer\r\n$14\r\n127.0.0.1:7102\r\n"
        b"$6\r\nclient\r\n$14\r\n127.0.0.1:7002\r\n$5\r\nvoter\r\n:1\r\n$8\r\nbecoming\r\n$-1\r\n"
        b"$11\r\nmatch_index\r\n:42\r\n"
        b"$9\r\nconnected\r\n:1\r\n"
    )
    reply = encode({b"voter": True}, RESP3)
    server.caller.protocol = RESP3
    assert server.wire(b"RAFT.STATUS").startswith(b"%17\r\n$7\r\nnode_id\r\n:1\r\n")
    assert reply.removeprefix(b"%1\r\n") in server.wire(b"RAFT.STATUS")


@pytest.mark.parametrize(
    ("line", "to"),
    [
        (b"RAFT.TRANSFER_LEADER", 0),
        (b"raft transfer_leader", 0),
        (b"RAFT.TRANSFER_LEADER 3", 3),
        (b"RAFT TRANSFER_LEADER 2147483647", 2147483647),
    ],
)
def test_transfer_leader(line: bytes, to: int) -> None:
    server = FakeServer()
    assert server.run(line) is OK
    assert server.handed_to == [to]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"RAFT.TRANSFER_LEADER 0", b"-ERR invalid node id\r\n"),
        (b"RAFT.TRANSFER_LEADER -1", b"-ERR invalid node id\r\n"),
        (b"RAFT TRANSFER_LEADER x", b"-ERR invalid node id\r\n"),
        (b"RAFT TRANSFER_LEADER 2147483648", b"-ERR invalid node id\r\n"),
        (
            b"RAFT.TRANSFER_LEADER 1 2",
            b"-ERR wrong number of arguments for 'raft.transfer_leader' command\r\n",
        ),
        (
            b"RAFT TRANSFER_LEADER 1 2",
            b"-ERR wrong number of arguments for 'raft|transfer_leader' command\r\n",
        ),
    ],
)
def test_transfer_leader_refused(line: bytes, error: bytes) -> None:
    server = FakeServer()
    assert server.wire(line) == error
    assert not server.handed_to


@pytest.mark.parametrize("line", [b"RAFT.SNAPSHOT NOW", b"raft snapshot now"])
def test_snapshot_now_replies_when_it_is_done(line: bytes) -> None:
    server = FakeServer()
    reply = server.run(line)
    assert [reply] == server.flushes


@pytest.mark.parametrize("line", [b"RAFT.SNAPSHOT LIST", b"RAFT SNAPSHOT list"])
def test_snapshot_list(line: bytes) -> None:
    assert FakeServer().run(line) == [
        {
            b"id": 2,
            b"index": 35,
            b"term": 2,
            b"time_ms": 1_700_000_000_000,
            b"size": 54321,
            b"sent_to": [3],
        }
    ]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"RAFT.SNAPSHOT", b"-ERR wrong number of arguments for 'raft.snapshot' command\r\n"),
        (b"RAFT SNAPSHOT NOW 1", b"-ERR wrong number of arguments for 'raft|snapshot' command\r\n"),
        (b"RAFT.SNAPSHOT LATER", b"-ERR syntax error\r\n"),
    ],
)
def test_snapshot_errors(line: bytes, reply: bytes) -> None:
    assert FakeServer().wire(line) == reply
