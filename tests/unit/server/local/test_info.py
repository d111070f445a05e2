"""INFO: sections as clients parse them."""

from dataclasses import replace

import pytest

from respraft.resp.replies import RESP3, Verbatim
from respraft.server.local.view import NodeState
from tests.unit.server.local.fakes import STATUS, FakeServer

SECTIONS = [
    "Server",
    "Clients",
    "Memory",
    "Persistence",
    "Stats",
    "Replication",
    "CPU",
    "Cluster",
    "Keyspace",
    "Raft",
]


def sections_of(reply: object) -> dict[str, dict[str, str]]:
    assert isinstance(reply, Verbatim)
    assert reply.format == "txt"
    sections = {}
    for block in reply.text.decode().split("\r\n\r\n") if reply.text else ():
        title, *lines = block.removesuffix("\r\n").split("\r\n")
        sections[title.removeprefix("# ")] = dict(line.split(":", 1) for line in lines)
    return sections


@pytest.mark.parametrize("words", [b"", b"all", b"DEFAULT", b"everything", b"server all"])
def test_all_sections(words: bytes) -> None:
    assert list(sections_of(FakeServer().run(b"INFO " + words))) == SECTIONS


@pytest.mark.parametrize("section", SECTIONS)
def test_one_section(section: str) -> None:
    assert list(sections_of(FakeServer().run(f"INFO {section}".encode()))) == [section]


def test_some_sections_and_an_unknown_one() -> None:
    server = FakeServer()
    assert list(sections_of(server.run(b"INFO keyspace nope CLIENTS"))) == ["Clients", "Keyspace"]
    assert server.wire(b"INFO nope") == b"$0\r\n\r\n"


def test_the_form_on_the_wire() -> None:
    server = FakeServer()
    assert server.wire(b"INFO keyspace cluster") == (
        b"$109\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n"
        b"# Keyspace\r\ndb0:keys=10,expires=2,avg_ttl=0\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n\r\n"
    )
    server.caller.protocol = RESP3
    assert server.wire(b"INFO cluster") == b"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n"


def test_what_clients_look_for() -> None:
    sections = sections_of(FakeServer().run(b"INFO"))
    server = sections["Server"]
    assert (server["redis_version"], server["redis_mode"]) == ("7.0.15", "standalone")
    assert (server["redis_git_sha1"], server["redis_git_dirty"]) == ("00000000", "0")
    assert server["run_id"] == "0123456789" * 4
    assert server["tcp_port"] == "7001"
    assert (server["uptime_in_seconds"], server["uptime_in_days"]) == ("100000", "1")
    assert sections["Clients"]["connected_clients"] == "3"
    assert sections["Clients"]["maxclients"] == "500"
    assert int(sections["Memory"]["used_memory"]) > 0
    assert sections["Memory"]["used_memory_human"].endswith("M")
    assert (
        sections["Stats"]
        | {
            "total_connections_received": "8",
            "total_commands_processed": "99",
            "total_net_input_bytes": "1000",
            "total_net_output_bytes": "2000",
            "rejected_connections": "1",
        }
        == sections["Stats"]
    )
    assert sections["Replication"]["role"] == "master"
    assert float(sections["CPU"]["used_cpu_user"]) > 0


def test_a_node_that_replays_its_log_is_loading() -> None:
    server = FakeServer()
    assert sections_of(server.run(b"INFO persistence"))["Persistence"]["loading"] == "0"
    server.status = replace(STATUS, state=NodeState.LOADING)
    assert sections_of(server.run(b"INFO persistence"))["Persistence"]["loading"] == "1"


def test_the_raft_section_has_the_names_of_redisraft() -> None:
    fields = sections_of(FakeServer().run(b"INFO raft"))["Raft"]
    assert all(name.startswith("raft_") for name in fields)
    del fields["raft_version"]
    assert fields == {
        "raft_dbid": "demo",
        "raft_node_id": "1",
        "raft_state": "up",
        "raft_role": "leader",
        "raft_is_voting": "yes",
        "raft_voted_for": "1",
        "raft_leader_id": "1",
        "raft_current_term": "3",
        "raft_num_nodes": "3",
        "raft_num_voting_nodes": "3",
        "raft_node1": "id=1,state=connected,voting=yes,addr=127.0.0.1,port=7101,"
        "last_conn_secs=5,conn_errors=1,conn_oks=2",
        "raft_node2": "id=2,state=connected,voting=yes,addr=127.0.0.1,port=7102,"
        "last_conn_secs=5,conn_errors=1,conn_oks=2",
        "raft_node3": "id=3,state=disconnected,voting=yes,addr=127.0.0.1,port=7103,"
        "last_conn_secs=-1,conn_errors=1,conn_oks=2",
        "raft_log_entries": "42",
        "raft_current_index": "42",
        "raft_commit_index": "41",
        "raft_last_applied_index": "40",
        "raft_file_size": "12345",
        "raft_fsync_count": "30",
        "raft_fsync_max_microseconds": "900",
        "raft_fsync_avg_microseconds": "300",
        "raft_snapshot_last_idx": "35",
        "raft_snapshot_last_term": "2",
        "raft_snapshot_size": "54321",
        "raft_snapshots_created": "4",
        "raft_snapshots_received": "1",
        "raft_proxy_reqs": "7",
        "raft_proxy_outstanding_reqs": "2",
    }


def test_a_node_without_a_cluster() -> None:
    server = FakeServer(
        status=replace(STATUS, state=NodeState.UNINITIALIZED, members=(), leader_id=0, leader_addr=None)
    )
    fields = sections_of(server.run(b"INFO raft"))["Raft"]
    assert (fields["raft_state"], fields["raft_is_voting"]) == ("uninitialized", "no")
    assert (fields["raft_num_nodes"], fields["raft_leader_id"]) == ("0", "0")
