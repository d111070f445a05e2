"""Nodes inside a program: what each call promises, and which error says what."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import respraft
from examples.counter import Counter
from respraft.library.user_machine import NotDeterministic
from respraft.storage.interface import StorageFailed
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK, free_ports

PATIENT_S = 60.0
STEADY_MS = 30_000


class Nodes:
    """Three nodes of one cluster, which share a counter, in this process."""

    def __init__(
        self,
        directory: Path,
        machine: Callable[[], respraft.Machine] = Counter,
        raft: respraft.RaftConfig | None = None,
    ) -> None:
        self.directory = directory
        self.raft = raft or respraft.RaftConfig()
        self.machine = machine
        self.members = [
            respraft.Member(node_id, f"{LOOPBACK}:{port}")
            for node_id, port in zip((1, 2, 3), free_ports(3), strict=True)
        ]
        self.all = [self.new_node(member.id) for member in self.members]

    def new_node(self, node_id: int) -> respraft.Node:
        return respraft.Node(self.machine(), self.configuration(node_id))

    def configuration(self, node_id: int) -> respraft.Configuration:
        return respraft.Configuration(
            id=node_id,
            directory=self.directory / str(node_id),
            members=self.members,
            timeout_s=PATIENT_S,
            max_stale_ms=60_000,
            raft=self.raft,
        )

    def start(self) -> None:
        for node in self.all:
            node.start()

    def stop(self) -> None:
        for node in self.all:
            node.stop()

    def leader(self) -> respraft.Node:
        return self.all[eventually(self._agreed_leader) - 1]

    def followers(self) -> list[respraft.Node]:
        leader = self.leader()
        return [node for node in self.all if node is not leader]

    def _agreed_leader(self) -> int | None:
        leaders = {node.leader() for node in self.all}
        return leaders.pop() if len(leaders) == 1 else None


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    nodes.start()
    yield nodes
    nodes.stop()


@pytest.fixture
def steady_nodes(tmp_path: Path) -> Iterator[Nodes]:
    """One of them goes on leading, also alone, for longer than any machine stands still."""
    nodes = Nodes(tmp_path, raft=respraft.RaftConfig(election_timeout_ms=STEADY_MS))
    nodes.start()
    eventually(nodes._agreed_leader)
    yield nodes
    nodes.stop()


def test_writes_and_reads_through_any_node(nodes: Nodes) -> None:
    expected = 0
    for round_ in range(30):
        expected += round_
        assert nodes.all[round_ % 3].write(b"%d" % round_) == expected
        assert [node.read(b"value") for node in nodes.all] == [expected] * 3


def test_a_node_shows_itself_and_its_log(nodes: Nodes) -> None:
    assert nodes.all[1].write(b"5") == 5
    nodes.all[1].read(b"value")
    status = eventually(lambda: status_while_led(nodes, nodes.all[1]), what="one leads and the others follow")
    assert (status.id, status.cluster, status.refused) == (2, "respraft", None)
    assert status.members == tuple(nodes.members)
    assert status.first_index == 1 <= status.applied_index <= status.commit_index <= status.last_index

    entries = [nodes.all[1].entry(index) for index in range(1, status.commit_index + 1)]
    assert [entry.index for entry in entries] == list(range(1, status.commit_index + 1))
    assert entries[0].members == tuple(nodes.members)
    assert [entry.commands for entry in entries if entry.kind == "commands"] == [((b"5",),)]
    assert {entry.kind for entry in entries} == {"members", "noop", "session", "commands"}
    with pytest.raises(respraft.NoSuchEntry, match=r"no committed entry 1000: .* holds entries 1 to") as none:
        nodes.all[1].entry(1000)
    assert (none.value.index, none.value.first) == (1000, 1)


def status_while_led(nodes: Nodes, node: respraft.Node) -> respraft.Status | None:
    """Its status, if all agree on who leads."""
    status = node.status()
    roles = {each.status().id: each.status().role for each in nodes.all}
    wanted = {id_: "leader" if id_ == status.leader else "follower" for id_ in roles}
    return status if status.leader and roles == wanted else None


def test_a_command_that_fails_is_an_error_to_its_writer_and_changes_nothing(nodes: Nodes) -> None:
    nodes.all[0].write(b"5")
    for node in nodes.all:
        with pytest.raises(respraft.CommandError, match="ValueError: invalid literal") as error:
            node.write(b"five")
        assert error.value.code == "ERR"
    with pytest.raises(respraft.CommandError, match="no attribute"):
        nodes.all[0].read(b"nothing")
    assert [node.read(b"value") for node in nodes.all] == [5, 5, 5]


def test_counting_goes_on_exactly_while_leaders_are_stopped(nodes: Nodes) -> None:
    """Each stop and each lost leader is a pause for the others, and not an error."""
    counted = 0
    lock = threading.Lock()
    errors: list[BaseException] = []

    def count(node: respraft.Node, done: threading.Event) -> None:
        nonlocal counted
        while not done.is_set():
            try:
                node.write(b"1")
            except BaseException as error:
                errors.append(error)
                raise
            with lock:
                counted += 1

    for _ in range(3):
        leader, others = nodes.leader(), nodes.followers()
        done = threading.Event()
        threads = [threading.Thread(target=count, args=(node, done)) for node in others for _ in range(4)]
        goal = counted + 50
        for thread in threads:
            thread.start()
        eventually(lambda: counted > goal)  # noqa: B023
        leader.stop()
        goal = counted + 50
        eventually(lambda: counted > goal)  # noqa: B023
        done.set()
        for thread in threads:
            thread.join()
        leader.start()
    assert not errors
    assert [node.read(b"value") for node in nodes.all] == [counted] * 3


def test_what_was_acknowledged_is_there_after_all_have_stopped(nodes: Nodes) -> None:
    nodes.all[0].write(b"7")
    nodes.stop()
    nodes.all = [nodes.new_node(node_id) for node_id in (1, 2, 3)]
    nodes.start()
    assert [node.read(b"value") for node in nodes.all] == [7, 7, 7]


def test_without_a_quorum_nothing_is_executed_and_the_error_says_so(nodes: Nodes) -> None:
    nodes.all[0].write(b"7")
    nodes.all[0].stop()
    nodes.all[1].stop()
    last = nodes.all[2]
    eventually(lambda: last.leader() is None)
    with pytest.raises(respraft.NoLeader) as refused:
        last.write(b"1", timeout=0.2)
    assert isinstance(refused.value, respraft.NotExecuted)
    with pytest.raises(respraft.NoLeader):
        last.read(b"value", timeout=0.2)
    nodes.all[0].start()
    assert last.write(b"10") == 17


def test_a_leader_that_lost_its_followers_does_not_know_what_becomes_of_a_write(
    steady_nodes: Nodes,
) -> None:
    nodes = steady_nodes
    nodes.all[0].write(b"7")
    leader, others = nodes.leader(), nodes.followers()
    for node in others:
        node.stop()
    with pytest.raises(respraft.OutcomeUnknown) as unknown:
        leader.write(b"1", timeout=1.0)
    assert isinstance(unknown.value, TimeoutError)
    assert not isinstance(unknown.value, respraft.NotExecuted)
    with pytest.raises((respraft.ReadTimeout, respraft.NoLeader)):
        leader.read(b"value", timeout=0.1)
    for node in others:
        node.start()
    assert others[0].write(b"10") in (17, 18)


def test_a_read_that_may_be_stale_needs_no_leader(nodes: Nodes) -> None:
    nodes.all[0].write(b"7")
    assert [node.read(b"value") for node in nodes.all] == [7] * 3
    nodes.all[0].stop()
    nodes.all[1].stop()
    assert nodes.all[2].read(b"value", stale=True) == 7
    eventually(lambda: nodes.all[2].leader() is None)
    with pytest.raises(respraft.NoLeader):
        nodes.all[2].read(b"value", timeout=0.2)


def test_a_write_that_runs_out_of_time_while_its_node_stops_is_not_said_to_have_failed(
    steady_nodes: Nodes,
) -> None:
    nodes = steady_nodes
    leader, others = nodes.leader(), nodes.followers()
    for node in others:
        node.stop()
    outcomes: list[BaseException] = []

    def write() -> None:
        try:
            leader.write(b"1", timeout=1.0)
        except respraft.Error as error:
            outcomes.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    eventually(lambda: leader._node._calls or outcomes)
    leader.stop()  # It waits for longer than the write does.
    writing.join()
    assert [type(each) for each in outcomes] == [respraft.OutcomeUnknown]


def test_leadership_is_handed_over_by_whoever_has_it_and_by_nobody_else(steady_nodes: Nodes) -> None:
    nodes = steady_nodes
    leader, (other, third) = nodes.leader(), nodes.followers()
    with pytest.raises(respraft.NotLeader) as not_leader:
        other.transfer_leadership()
    assert not_leader.value.leader == leader.status().id
    with pytest.raises(respraft.ChangeRefused):
        leader.transfer_leadership(9)
    leader.transfer_leadership(third.status().id)
    assert nodes.leader() is third


def test_a_node_that_does_not_run_says_so(nodes: Nodes) -> None:
    node = nodes.all[0]
    with pytest.raises(RuntimeError, match="running"):
        node.start()
    node.stop()
    node.stop()
    for call in (lambda: node.write(b"1"), lambda: node.read(b"value"), node.status, node.leader):
        with pytest.raises(respraft.Stopped):
            call()
    node.start()
    assert node.write(b"1") == 1


def test_one_directory_belongs_to_one_node(nodes: Nodes) -> None:
    second = nodes.new_node(1)
    with pytest.raises(respraft.StartRefused, match="in use by another process"):
        second.start()
    nodes.all[0].write(b"1")


def test_an_address_that_is_taken_leaves_a_node_that_can_be_started_later(
    nodes: Nodes, tmp_path: Path
) -> None:
    taken = nodes.members[0].peer
    configuration = respraft.Configuration(
        id=1, directory=tmp_path / "other", members=[respraft.Member(1, taken)]
    )
    other = respraft.Node(Counter(), configuration)
    with pytest.raises(OSError, match="in use"):
        other.start()
    nodes.all[0].stop()
    with other:
        assert other.write(b"3", timeout=PATIENT_S) == 3


def test_a_node_whose_disk_gives_out_stops_and_the_program_goes_on(nodes: Nodes) -> None:
    nodes.all[0].write(b"7")
    victim, others = nodes.leader(), nodes.followers()
    failure = StorageFailed("the log: fdatasync: Input/output error")

    def fail(*_: object, **__: object) -> None:
        raise failure

    running = victim._node._node
    assert running is not None
    running.log_store.append = fail  # type: ignore[method-assign]
    with pytest.raises(respraft.NodeFailed, match="Input/output error") as failed:
        victim.write(b"1")
    assert failed.value.__cause__ is failure
    with pytest.raises(respraft.NodeFailed):
        victim.status()
    assert others[0].write(b"10") in (17, 18)
    victim.stop()
    victim.start()
    assert victim.read(b"value") == others[0].read(b"value")


def test_a_node_that_was_away_for_long_is_sent_the_state(tmp_path: Path) -> None:
    small = respraft.RaftConfig(compact_entries=20, keep_entries=5, keep_bytes=0)
    nodes = Nodes(tmp_path, raft=small)
    nodes.start()
    try:
        assert nodes.all[0].write(b"1") == 1
        away = nodes.followers()[0]
        away.stop()
        there = [node for node in nodes.all if node is not away]
        total = 1

        def cut() -> bool:
            """The log is kept for a moment for a node that was there just now, so more has to be written."""
            nonlocal total
            total = there[0].write(b"1")
            if total % 10 == 0:
                with pytest.raises(respraft.CommandError):
                    there[1].write(b"bad")
            return all(node.status().first_index > 50 for node in there)

        eventually(cut)
        with pytest.raises(respraft.NoSuchEntry):
            there[0].entry(1)
        away.start()
        assert away.read(b"value") == total
        assert away.status().first_index > 50
        assert away.write(b"1") == total + 1
        nodes.stop()
        nodes.start()
        assert [node.read(b"value") for node in nodes.all] == [total + 1] * 3
    finally:
        nodes.stop()


def test_a_machine_that_is_not_deterministic_stops_its_node_and_says_so(tmp_path: Path) -> None:
    class Moody(Counter):
        moods = 0  # Of the class: no part of the state.

        def apply(self, command: bytes, context: respraft.Context) -> int:
            Moody.moods += 1
            if command == b"once" and Moody.moods > 1:
                raise ValueError("not again")
            return 1 if command == b"once" else super().apply(command, context)

    member = respraft.Member(1, f"{LOOPBACK}:{free_ports(1)[0]}")
    configuration = respraft.Configuration(id=1, directory=tmp_path, members=[member], timeout_s=PATIENT_S)
    with respraft.Node(Moody(), configuration) as node:
        assert node.write(b"once") == 1
        with pytest.raises(
            respraft.NodeFailed, match=r"was applied before, and raises now: ValueError"
        ) as failed:
            node.write(b"five")
        assert isinstance(failed.value.__cause__, NotDeterministic)


def test_a_node_whose_directory_was_deleted_is_no_member(nodes: Nodes, tmp_path: Path) -> None:
    nodes.all[0].write(b"7")
    nodes.all[2].stop()
    wiped = respraft.Configuration(
        id=3, directory=tmp_path / "empty", members=nodes.members, timeout_s=PATIENT_S
    )
    with respraft.Node(Counter(), wiped) as node:
        eventually(lambda: node.status().refused)
        with pytest.raises(respraft.NotMember, match="was deleted or replaced"):
            node.write(b"1")
    assert nodes.all[0].write(b"1") == 8


def test_many_calls_at_a_time_share_entries(tmp_path: Path) -> None:
    async def run(configurations: Sequence[respraft.Configuration]) -> None:
        first, second, third = [respraft.AsyncNode(Counter(), each) for each in configurations]
        async with first, second, third:
            replies = await asyncio.gather(*(node.write(b"1") for node in (first, second, third) * 100))
            assert sorted(replies) == list(range(1, 301))
            assert await second.read(b"value") == 300
            assert second.status().last_index < 100

    nodes = Nodes(tmp_path)
    asyncio.run(run([nodes.configuration(node_id) for node_id in (1, 2, 3)]))


def test_calls_and_starts_that_are_given_up_leave_nothing_behind(tmp_path: Path) -> None:
    async def run() -> None:
        member = respraft.Member(1, f"{LOOPBACK}:{free_ports(1)[0]}")
        configuration = respraft.Configuration(
            id=1, directory=tmp_path, members=[member], timeout_s=PATIENT_S
        )
        given_up = respraft.AsyncNode(Counter(), configuration)
        starting = asyncio.create_task(given_up.start())
        await asyncio.sleep(0)  # It opens the directory, on a thread.
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        node = respraft.AsyncNode(Counter(), configuration)
        while True:
            try:
                await node.start()
                break
            except respraft.StartRefused:  # The other has not let go yet.
                await asyncio.sleep(0.01)
        writing = asyncio.create_task(node.write(b"1"))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await node.write(b"10") in (10, 11)
        await node.stop()

    asyncio.run(run())


def test_a_command_that_every_node_has_cannot_be_a_machines(tmp_path: Path) -> None:
    class Wrong(respraft.Machine):
        @respraft.command("Ping", arity=1)
        def ping(self, context: respraft.Context) -> None: ...

    with pytest.raises(ValueError, match="cannot have a command PING"):
        respraft.AsyncNode(Wrong(), respraft.Configuration(id=1, directory=tmp_path))


def test_a_configuration_that_cannot_be_says_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(respraft.ConfigError, match="id is 4, but members lists only 1, 2, 3; add this node"):
        Nodes(tmp_path).new_node(4)
    with pytest.raises(respraft.ConfigError, match="members and peer_listen are missing"):
        respraft.AsyncNode(Counter(), respraft.Configuration(id=1, directory=tmp_path))


def test_members_are_replaced_in_one_change_asked_of_any_node(nodes: Nodes, tmp_path: Path) -> None:
    nodes.all[0].write(b"7")
    leaver = nodes.leader()
    stays = [node for node in nodes.all if node is not leaver]
    fourth = respraft.Member(4, f"{LOOPBACK}:{free_ports(1)[0]}")
    joining = respraft.Node(
        Counter(),
        respraft.Configuration(
            id=4, directory=tmp_path / "4", peer_listen=fourth.peer, join=nodes.members, timeout_s=PATIENT_S
        ),
    )
    with joining:
        with pytest.raises(respraft.NotMember):
            joining.write(b"1")
        left = leaver.status().id
        wanted = [member for member in nodes.members if member.id != left] + [fourth]
        stays[0].set_members(wanted)
        assert joining.read(b"value") == 7
        assert joining.write(b"1") == 8
        for node in (joining, *stays):
            assert eventually(lambda node=node: node.status().members == tuple(wanted))  # type: ignore[misc]
        with pytest.raises(respraft.NotMember, match="removed"):
            eventually(lambda: leaver.write(b"1") and False)
        # Said again, it is done already.
        stays[1].set_members(wanted)
        with pytest.raises(respraft.ChangeRefused, match=f"{left}"):
            stays[0].set_members([*wanted, nodes.members[left - 1]])
    assert stays[0].write(b"1") == 9


def test_two_of_three_members_are_replaced_in_one_change_the_leader_included(
    nodes: Nodes, tmp_path: Path
) -> None:
    nodes.all[0].write(b"7")
    leader = nodes.leader()
    stays = next(node for node in nodes.all if node is not leader)
    stayer = stays.status().id
    new = [
        respraft.Member(number, f"{LOOPBACK}:{port}")
        for number, port in zip((4, 5), free_ports(2), strict=True)
    ]
    coming = [
        respraft.Node(
            Counter(),
            respraft.Configuration(
                id=member.id,
                directory=tmp_path / str(member.id),
                peer_listen=member.peer,
                join=nodes.members,
                timeout_s=PATIENT_S,
            ),
        )
        for member in new
    ]
    with coming[0], coming[1]:
        wanted = [nodes.members[stayer - 1], *new]
        stays.set_members(wanted)
        for node in (stays, *coming):
            assert eventually(lambda node=node: node.status().members == tuple(wanted))  # type: ignore[misc]
        # The two that have left can be gone: the new three decide among themselves.
        for node in nodes.all:
            if node is not stays:
                node.stop()
        assert [coming[0].write(b"1"), coming[1].write(b"1"), stays.write(b"1")] == [8, 9, 10]


def test_a_node_that_cannot_be_reached_is_not_added(nodes: Nodes) -> None:
    before = nodes.all[0].status().members or tuple(nodes.members)
    nobody = respraft.Member(4, f"{LOOPBACK}:{free_ports(1)[0]}")
    for node in (nodes.leader(), nodes.followers()[0]):
        with pytest.raises(respraft.ChangeRefused, match="cannot reach node 4"):
            node.set_members([*nodes.members, nobody])
    with pytest.raises(respraft.ChangeRefused):
        nodes.all[0].set_members([])
    with pytest.raises(respraft.ChangeRefused):
        nodes.all[0].set_members([*nodes.members, nodes.members[0]])
    assert nodes.all[0].status().members == before
    assert nodes.all[0].write(b"1") == 1


def test_nodes_without_a_cluster_found_one_where_they_are_told_to(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    nodes.all = [
        respraft.Node(
            Counter(),
            respraft.Configuration(
                id=member.id,
                directory=tmp_path / str(member.id),
                peer_listen=member.peer,
                join=nodes.members,
                timeout_s=PATIENT_S,
            ),
        )
        for member in nodes.members
    ]
    nodes.start()
    try:
        for node in nodes.all:
            with pytest.raises(respraft.NotMember):
                node.write(b"1")
        nodes.all[1].set_members(nodes.members)
        assert [node.write(b"1") for node in nodes.all] == [1, 2, 3]
        nodes.stop()
        nodes.start()
        assert [node.read(b"value") for node in nodes.all] == [3, 3, 3]
    finally:
        nodes.stop()
