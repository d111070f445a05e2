"""What a node's log says about leadership, and how often."""

import logging
from collections.abc import Callable

import msgspec
import pytest

from respraft.config import ClusterConfig
from respraft.node.announcer import REMIND_S, Announcer
from respraft.raft.configuration import Member
from respraft.replica.status import ReplicaStatus
from tests.unit.replica.cluster import Cluster


class Watched:
    """A node's announcer, on a clock that the test moves."""

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        self.now = 0.0
        self.node_id = node_id
        self.announcer = Announcer(cluster.config(node_id), clock=lambda: self.now)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, logger="respraft.raft")

    def take() -> list[str]:
        lines = [record.message for record in caplog.records]
        caplog.clear()
        return lines

    return take


def status_of(cluster: Cluster, node_id: int) -> ReplicaStatus:
    return cluster.nodes[node_id].replica.status()


def test_each_leader_is_named_once(said: Callable[[], list[str]]) -> None:
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.followers()[0]
    for node, line in ((leader, "this node leads"), (follower, f"node {leader.id} leads")):
        watched = Watched(cluster, node.id)
        for _ in range(3):
            watched.announcer.look(status_of(cluster, node.id), [1, 2, 3])
        assert said() == [f"{line} in term {leader.core.term}"]


def test_a_lasting_lack_of_a_leader_is_explained_and_repeated_once_a_minute(
    said: Callable[[], list[str]],
) -> None:
    cluster = Cluster()
    survivor = cluster.followers()[0]
    for node in cluster.live():
        if node is not survivor:
            cluster.crash(node.id)
    cluster.until(lambda: survivor.core.leader == 0)
    watched = Watched(cluster, survivor.id)
    for second in range(int(REMIND_S) + 5):
        watched.now = float(second)
        watched.announcer.look(status_of(cluster, survivor.id), [])
    lines = said()
    assert len(lines) == 2
    assert lines[0] == (
        "no leader for 1 s: this node reaches 1 of 3 voters, itself included, and a leader needs 2"
    )


def test_a_cluster_that_waits_for_members_names_them(said: Callable[[], list[str]]) -> None:
    cluster = Cluster(form=False)
    watched = Watched(cluster, 1)
    watched.now = 5.0
    watched.announcer.look(status_of(cluster, 1), [2])
    assert said() == ["waiting for node 3 to form the cluster: its first start needs all its members"]


def test_a_refused_node_and_one_without_members_say_so(said: Callable[[], list[str]]) -> None:
    cluster = Cluster(form=False)
    watched = Watched(cluster, 2)
    watched.now = 5.0
    cluster.nodes[2].replica.refused(1, "its directory was replaced", removed=False)
    watched.announcer.look(status_of(cluster, 2), [1, 3])
    assert said() == ["the cluster refuses this node: its directory was replaced"]
    config = cluster.config(1)
    lonely = Announcer(
        type(config)(
            node=config.node,
            client=config.client,
            peer=config.peer,
            http=config.http,
            cluster=ClusterConfig(id="test"),
        ),
        clock=lambda: watched.now,
    )
    watched.now = 50.0
    lonely.look(msgspec.structs.replace(status_of(cluster, 1)), [])
    assert said() == [
        "this node belongs to no cluster and serves nobody: it waits for RAFT.CLUSTER INIT, or for "
        "RAFT.CLUSTER JOIN host:port"
    ]


def test_changes_of_the_members_are_named(said: Callable[[], list[str]]) -> None:
    cluster = Cluster()
    watched = Watched(cluster, 1)
    status = status_of(cluster, 1)
    configuration = status.applied_configuration
    assert configuration is not None
    learner = Member(4, "", "", 104, voter=False)
    planned = msgspec.structs.replace(
        configuration, members=(*configuration.members, learner), planned_voters=(1, 2, 3, 4)
    )
    joint = msgspec.structs.replace(
        planned,
        members=(*configuration.members, msgspec.structs.replace(learner, voter=True)),
        planned_voters=(),
        old_voters=(1, 2, 3),
    )
    for each in (configuration, configuration, planned, joint):
        watched.announcer.look(msgspec.structs.replace(status, applied_configuration=each), [1, 2, 3])
    assert [line for line in said() if line.startswith("members")] == [
        "members: 1, 2, 3; without a vote: 4; waiting for 4 to catch up",
        "members: 1, 2, 3, 4; changing the voters to 1, 2, 3, 4",
    ]
