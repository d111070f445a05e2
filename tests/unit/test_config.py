"""The configuration: what is accepted, and that every refusal names the key and what would be right."""

import dataclasses
import re
from pathlib import Path

import pytest

from respraft.config import (
    MIB,
    TICK_MS,
    ClientConfig,
    Config,
    ConfigError,
    MemberConfig,
    RaftConfig,
    is_loopback,
    parse_address,
)
from respraft.config_file import load, parse

CONTAINERS = Path(__file__).parents[2] / "conf/containers"

MINIMAL = """
[node]
id = 1
data_dir = "data/node-1"
[client]
listen = "127.0.0.1:7001"
[peer]
listen = "127.0.0.1:7101"
[http]
listen = "127.0.0.1:7201"
[cluster]
id = "demo"
"""

MEMBERS = """
members = [
    { id = 1, peer = "127.0.0.1:7101", client = "127.0.0.1:7001" },
    { id = 2, peer = "127.0.0.1:7102", client = "127.0.0.1:7002" },
]
"""


def test_what_is_told_is_what_is_read() -> None:
    config = parse(MINIMAL + MEMBERS + "[raft]\nheartbeat_ms = 50\n")

    assert config.node.id == 1
    assert config.node.data_dir == Path("data/node-1")
    assert config.client.listen == "127.0.0.1:7001"
    assert config.cluster.members[1] == MemberConfig(id=2, peer="127.0.0.1:7102", client="127.0.0.1:7002")
    assert config.raft.heartbeat_ms == 50


def test_keys_left_out_have_their_defaults() -> None:
    config = parse(MINIMAL)

    assert config.raft == RaftConfig()
    assert config.client == ClientConfig(listen="127.0.0.1:7001")
    assert config.client.bulk_bytes_max == 64 * MIB
    assert config.cluster.members == ()


def test_the_core_is_told_its_times_in_ticks() -> None:
    raft = RaftConfig()

    assert raft.heartbeat_ticks * TICK_MS == raft.heartbeat_ms == 100
    assert raft.election_ticks * TICK_MS == raft.election_timeout_ms == 500


def test_nothing_can_be_changed_after_loading() -> None:
    config = parse(MINIMAL)

    with pytest.raises(dataclasses.FrozenInstanceError):
        config.raft.heartbeat_ms = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("[raft]\nhartbeat_ms = 100", "raft.hartbeat_ms is not known; did you mean raft.heartbeat_ms?"),
        ('[raft]\nread_mode = "fast"', "raft.read_mode is 'fast'; it must be 'read-index' or 'lease'"),
        ("[raft]\npark_ms = 100", "raft.park_ms is not known; park_ms belongs under [client]"),
        ("[raft]\ncolour = 1", "raft.colour is not known; what can stand there: raft.heartbeat_ms, "),
        ("[rafts]\n", "rafts is not known; did you mean raft?"),
        ("[storage]\nlisten = 'x:1'", "listen belongs under [client] or [peer] or [http]"),
        (
            "[raft]\nheartbeat_ms = '100'",
            "raft.heartbeat_ms is '100'; it must be a whole number, without quotes",
        ),
        ("[raft]\nheartbeat_ms = 100.0", "raft.heartbeat_ms is 100.0; it must be a whole number"),
        ("[raft]\nheartbeat_ms = true", "raft.heartbeat_ms is True; it must be a whole number"),
        ("[raft]\nheartbeat_ms = 105", "raft.heartbeat_ms is 105; it must be a multiple of 10"),
        ("[raft]\nheartbeat_ms = 0", "raft.heartbeat_ms is 0; it must be between 10 and 60000"),
        ("[raft]\nheartbeat_ms = 200", "raft.election_timeout_ms is 500; it must be at least 5 times "),
        ("[raft]\nbatch_commands_max = 0", "raft.batch_commands_max is 0; it must be between 1 and 65536"),
        ("[storage]\nblock_cache_bytes = -1", "storage.block_cache_bytes is -1; it must be between"),
    ],
)
def test_a_refusal_names_the_key_and_what_would_be_right(added: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(MINIMAL + added)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id = 1\n", "", "node.id is missing; it says which of cluster.members this node is"),
        ("id = 1\n", "id = -1\n", "node.id is -1; it must be between 0 and 2147483647"),
        ('id = "demo"\n', "", "cluster.id is missing; a cluster with cluster.members needs a name"),
        ("id = 1\n", "id = 3\n", "node.id is 3, but cluster.members lists only 1, 2; add this node"),
        ('"data/node-1"', "1", "node.data_dir is 1; it must be text in quotes"),
        ('"data/node-1"', '""', "node.data_dir is ''; it must be text in quotes"),
        ('listen = "127.0.0.1:7001"', "", "client.listen is missing; it has no default"),
        ('"127.0.0.1:7001"\n[', '"7001"\n[', "client.listen: '7001' is no address; write host:port, such as"),
        ('"127.0.0.1:7101"\n[', '"127.0.0.1:7001"\n[', "address 127.0.0.1:7001 stands there twice"),
        ('"demo"', '"two words"', "cluster.id is 'two words'; it must be 1 to 64 letters, digits"),
        ("{ id = 2", "{ id = 1", "cluster.members: id 1 stands there twice"),
        ("127.0.0.1:7102", "127.0.0.1:7101", "cluster.members: address 127.0.0.1:7101 stands there twice"),
        ("127.0.0.1:7102", "127.0.0.1:0", "peer of member 2: '127.0.0.1:0' has no usable port"),
        ('peer = "127.0.0.1:7102", ', "", "cluster.members[1].peer is missing; it has no default"),
        ("{ id = 2", "{ port = 3, id = 2", "cluster.members[1].port is not known"),
        ("[node]\n", "node = 3\n[nodes]\n", "node must be a section: write [node] on a line of its own"),
    ],
)
def test_a_refusal_of_what_must_be_there(old: str, new: str, said: str) -> None:
    text = MINIMAL + MEMBERS
    assert old in text

    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(text.replace(old, new, 1))


def test_members_must_be_a_list_of_tables() -> None:
    with pytest.raises(ConfigError, match=r"cluster.members must be a list of \{ id = 1, peer = "):
        parse(MINIMAL + "members = [1, 2]")


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("query_buffer_bytes_max = 1048576", "client.query_buffer_bytes_max is 1048576; it must be at least"),
        (
            "in_flight_bytes_max = 536870912",
            "client.in_flight_bytes_hard_max is 268435456; it must be at least",
        ),
        ("query_buffer_bytes_max = 1073741824", "peer.message_bytes_max is 536870912; it must be at least"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(added: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(MINIMAL.replace("[client]\n", f"[client]\n{added}\n"))


def test_a_fragment_must_fit_into_a_frame() -> None:
    with pytest.raises(ConfigError, match=r"peer.frame_bytes_max is 262144; it must be at least twice"):
        parse(MINIMAL.replace("[peer]\n", "[peer]\nframe_bytes_max = 262144\n"))


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "respraft.toml"

    with pytest.raises(ConfigError, match="respraft.toml: cannot be read: No such file"):
        load(path)
    path.write_text("[node\n")
    with pytest.raises(ConfigError, match="respraft.toml: is not valid TOML: .*line 1"):
        load(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="respraft.toml: is not UTF-8"):
        load(path)
    path.write_text("[node]\nid = 0\n")
    with pytest.raises(ConfigError, match="respraft.toml: node.data_dir is missing"):
        load(path)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7001", ("127.0.0.1", 7001)),
        ("node-1.example:65535", ("node-1.example", 65535)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "7001", ":7001", "host:", "::1:7001", "[]:1", "[host]:1", "a b:1", "http://host:1", "[::1:1"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"(is no address; write host:port, such as|has no usable port)"):
        parse_address(text)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "+1", "7k", "99999999999999999999", "\u0661"])
def test_what_is_no_port(port: str) -> None:
    with pytest.raises(ConfigError, match="must be a number between 1 and 65535"):
        parse_address(f"host:{port}")


def test_which_hosts_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "node-1"]))


def test_listening_for_other_machines_is_noticed() -> None:
    assert _config_listening_on("127.0.0.1").exposed_listeners() == []
    assert _config_listening_on("0.0.0.0").exposed_listeners() == [
        "client.listen = 0.0.0.0:7001",
        "peer.listen = 0.0.0.0:7101",
        "http.listen = 0.0.0.0:7201",
    ]


def test_the_three_containers_form_one_cluster() -> None:
    configs = [load(path) for path in sorted(CONTAINERS.glob("node-*.toml"))]

    assert [config.node.id for config in configs] == [1, 2, 3]
    assert all(config.cluster == configs[0].cluster for config in configs)
    # What the Dockerfile's health check asks.
    assert {config.http.listen for config in configs} == {"0.0.0.0:7201"}


def _config_listening_on(host: str) -> Config:
    return parse(MINIMAL.replace("127.0.0.1", host))
