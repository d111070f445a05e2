"""`respraft repair --rejoin` on data directories: what it sets aside, what it leaves, and what it refuses."""

import shutil
from pathlib import Path

import pytest

from respraft import cli
from respraft.config import Config
from respraft.config_file import parse
from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import SnapshotPoint
from respraft.raft.ready import HardState
from respraft.repair import RepairRefused, rejoin
from respraft.replica.applier import META_CONFIGURATION
from respraft.replica.machine import META_PREFIX
from respraft.storage.interface import DirectoryInUse, LogDamaged, StartRefused, StorageFailed
from respraft.storage.log import open_log
from respraft.storage.rejoin import Rejoin, check_rejoin, read_rejoin, set_aside, write_rejoin
from respraft.storage.state import RocksStateStore
from tests.unit.storage.log_samples import entries

MEMBERS = """
members = [
    { id = 1, peer = "127.0.0.1:8101", client = "127.0.0.1:8001" },
    { id = 2, peer = "127.0.0.1:8102", client = "127.0.0.1:8002" },
    { id = 3, peer = "127.0.0.1:8103", client = "127.0.0.1:8003" },
]
"""


def config_of(path: Path, *, members: str = MEMBERS, node_id: int = 3) -> Config:
    return parse(config_text(path, members=members, node_id=node_id))


def config_text(path: Path, *, members: str = MEMBERS, node_id: int = 3) -> str:
    return f"""
[node]
id = {node_id}
data_dir = "{path}"
[cluster]
id = "demo"
{members}
[client]
listen = "127.0.0.1:8003"
[peer]
listen = "127.0.0.1:8103"
[http]
listen = "127.0.0.1:8203"
"""


def filled(path: Path, *, node_id: int = 3) -> Path:
    """A node's directory, whole."""
    log = open_log(path, node_id, "demo")
    log.append(HardState(1, 1, 3), entries(1, 9))
    log.close()
    members = tuple(
        Member(each, f"127.0.0.1:810{each}", f"127.0.0.1:800{each}", each, voter=True) for each in (1, 3, 4)
    )
    store = RocksStateStore(path / "state" / "1", write_buffer_bytes=1 << 20, block_cache_bytes=1 << 20)
    store.write({META_PREFIX + META_CONFIGURATION: Configuration(members).encode(), b"x": b"y" * 1000})
    store.close()
    return path


def damaged(path: Path) -> Path:
    """The same, with a byte of its log flipped."""
    for log in (filled(path) / "raft").glob("*.sst"):
        content = bytearray(log.read_bytes())
        content[20] ^= 1
        log.write_bytes(content)
    with pytest.raises(LogDamaged, match="respraft repair --rejoin --config FILE"):
        open_log(path, 3, "demo")
    return path


def start_with(path: Path, note: Rejoin) -> None:
    """What a server does first."""
    log = open_log(path, 3, "demo")
    try:
        check_rejoin(path, note, log.identity())
    finally:
        log.close()


def assert_prepared(path: Path) -> Rejoin:
    note = read_rejoin(path)
    assert note is not None
    log = open_log(path, 3, "demo")
    identity = log.identity()
    assert (identity.node_id, identity.replaces, log.last_index()) == (0, 3, 0)
    check_rejoin(path, note, identity)
    log.close()
    return note


def test_a_damaged_log_is_set_aside(tmp_path: Path) -> None:
    path = damaged(tmp_path / "data")
    (path / "respraft.toml").write_text("# not the node's")
    before = {file.name for file in (path / "raft").iterdir()}
    words = rejoin(config_of(path))
    note = assert_prepared(path)
    aside = Path(note.set_aside)
    assert aside.parent == path and aside.name.startswith("set-aside-2")
    assert {file.name for file in (aside / "raft").iterdir()} == before
    assert sorted(each.name for each in aside.iterdir()) == ["log.mark", "raft", "state"]
    assert (path / "respraft.toml").exists()
    assert not (path / "state").exists()
    assert str(aside) in words and "127.0.0.1:8001 or 127.0.0.1:8002" in words


def test_whom_the_node_can_ask(tmp_path: Path) -> None:
    """Members of the file, then those that the old state knows; never itself."""
    path = damaged(tmp_path / "data")
    rejoin(config_of(path), contacts=["10.0.0.9:1"])
    note = assert_prepared(path)
    assert (note.peer, note.client) == ("127.0.0.1:8103", "127.0.0.1:8003")
    assert note.contacts == ["10.0.0.9:1", "127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8004"]


def test_the_addresses_of_a_node_that_the_file_does_not_list(tmp_path: Path) -> None:
    """As the old state has them; else where it listens."""
    path = damaged(tmp_path / "data")
    text = config_text(path, members="").replace("8003", "9003").replace("8103", "9103")
    rejoin(parse(text))
    note = assert_prepared(path)
    assert (note.peer, note.client) == ("127.0.0.1:8103", "127.0.0.1:8003")
    assert note.contacts == ["127.0.0.1:8001", "127.0.0.1:8004"]
    shutil.rmtree(path)
    rejoin(parse(text), contacts=["127.0.0.1:8001"])
    assert assert_prepared(path).peer == "127.0.0.1:9103"


def test_a_disk_that_was_lost_altogether(tmp_path: Path) -> None:
    path = tmp_path / "data"
    rejoin(config_of(path))
    assert assert_prepared(path).set_aside == ""
    with pytest.raises(RepairRefused, match="--contact HOST:PORT"):
        rejoin(config_of(tmp_path / "other", members=""))
    rejoin(config_of(tmp_path / "other", members=""), contacts=["10.0.0.9:1"])


def test_whole_data_is_not_given_up_unless_that_is_insisted_on(tmp_path: Path) -> None:
    path = filled(tmp_path / "data")
    with pytest.raises(RepairRefused, match=r"nothing is wrong .* --even-if-whole"):
        rejoin(config_of(path))
    log = open_log(path, 3, "demo")
    assert log.last_index() == 9
    log.close()
    rejoin(config_of(path), insist=True)
    assert_prepared(path)


def test_a_damaged_state_is_reason_enough(tmp_path: Path) -> None:
    path = filled(tmp_path / "data")
    (table,) = (path / "state" / "1").glob("*.sst")
    content = bytearray(table.read_bytes())
    content[10] ^= 1
    table.write_bytes(content)
    rejoin(config_of(path))
    assert_prepared(path)


def test_a_missing_state_counts_once_the_log_was_cut(tmp_path: Path) -> None:
    path = filled(tmp_path / "data")
    shutil.rmtree(path / "state")
    with pytest.raises(RepairRefused, match="nothing is wrong"):
        rejoin(config_of(path))  # The log makes it anew.
    log = open_log(path, 3, "demo")
    log.install(HardState(1, 1, 20), SnapshotPoint(20, 1, 5), 2, keep_tail=False)
    log.close()
    rejoin(config_of(path))
    assert_prepared(path)


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    path = damaged(tmp_path / "data")
    rejoin(config_of(path))
    note = assert_prepared(path)
    rejoin(config_of(path))
    assert assert_prepared(path) == note
    assert len(list(path.glob("set-aside-*"))) == 1


def test_a_repair_that_was_cut_short_is_finished_by_another(tmp_path: Path) -> None:
    path = damaged(tmp_path / "data")
    write_rejoin(path, Rejoin(3, "127.0.0.1:8103", "127.0.0.1:8003", ["127.0.0.1:8001"], ""))
    shutil.move(path / "state", tmp_path / "moved")
    rejoin(config_of(path))
    assert_prepared(path)

    path = filled(tmp_path / "second")
    write_rejoin(path, Rejoin(3, "127.0.0.1:8103", "127.0.0.1:8003", ["127.0.0.1:8001"], ""))
    note = read_rejoin(path)
    assert note is not None
    log = open_log(path, 3, "demo")
    with pytest.raises(StartRefused, match="was cut short. Run it again"):
        check_rejoin(path, note, log.identity())
    log.close()
    set_aside(path)
    rejoin(config_of(path))
    assert_prepared(path)


@pytest.mark.parametrize("moves", range(4))
def test_a_repair_that_stops_between_two_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Whatever was moved, the node does not start with the rest, and the repair can be finished."""
    path = damaged(tmp_path / "data")
    rename, left = Path.rename, [moves]

    def rename_some(source: Path, target: Path) -> Path:
        if not source.name.startswith("rejoin"):
            if not left[0]:
                raise OSError(5, "Input/output error")
            left[0] -= 1
        return rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename_some)
        with pytest.raises((OSError, StorageFailed), match="Input/output error"):
            rejoin(config_of(path))
    note = read_rejoin(path)
    assert note is not None
    with pytest.raises(StartRefused):
        start_with(path, note)
    rejoin(config_of(path))
    assert_prepared(path)
    aside = {each.name for target in path.glob("set-aside-*") for each in target.iterdir()}
    assert aside >= {"log.mark", "raft", "state"}, "nothing was lost"


def test_a_running_node_and_another_nodes_directory_are_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path / "data")
    log = open_log(path, 3, "demo")
    with pytest.raises(DirectoryInUse):
        rejoin(config_of(path))
    log.close()
    with pytest.raises(RepairRefused, match="belongs to node 3"):
        rejoin(config_of(path, node_id=2))
    assert read_rejoin(path) is None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = filled(tmp_path / "data")
    file = tmp_path / "respraft.toml"
    file.write_text(config_text(path))
    assert cli.main(["repair", "--rejoin", "--config", str(file)]) == 3
    assert "nothing is wrong" in capsys.readouterr().err
    assert cli.main(["repair", "--rejoin", "--config", str(file), "--even-if-whole"]) == 0
    assert "ready to come back" in capsys.readouterr().out
    assert cli.main(["repair", "--rejoin", "--config", str(file), "--contact", "nonsense"]) == 2


def test_a_note_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "rejoin.json").write_text("{}")
    with pytest.raises(StartRefused, match=r"rejoin\.json"):
        read_rejoin(tmp_path)
