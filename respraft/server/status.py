"""Figures for people and for Prometheus, made from the snapshots of the parts.

`node_status` serves RAFT.STATUS and INFO; `Figures` feeds the metrics. Nothing here changes anything, and
nothing is computed until somebody looks.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter, Histogram

from respraft import metrics
from respraft.node.node import Node
from respraft.peer.interface import PeerStatus
from respraft.raft.configuration import Configuration, Member
from respraft.raft.message import NOBODY, NodeId
from respraft.raft.ready import RaftStatus, Role
from respraft.replica.changes import next_id, outcome_of
from respraft.replica.replica import Replica
from respraft.replica.status import ReplicaStatus
from respraft.server.local.view import Counters, MemberStatus, NodeState, NodeStatus, SnapshotStatus

if TYPE_CHECKING:
    from respraft.server.server import Server

READY_ENTRIES_MAX: Final = 1000
"""A node further than this behind its own commit index is not ready: its reads would wait."""


def node_status(node: Node[Any]) -> NodeStatus:
    """Return a node's view of itself and of the cluster."""
    replica = node.replica
    state = replica.status()
    raft = state.raft
    log = node.log_store.status()
    members = _members(raft, node.network.status(), node.node_id)
    leader = next((member.client for member in members if member.id == raft.leader), None)
    return NodeStatus(
        node_id=node.node_id,
        replaces=node.log_store.identity().replaces,
        cluster_id=node.cluster_id,
        state=_node_state(node, state),
        membership=_membership(raft.configuration),
        next_node_id=next_id(raft.configuration, state.invited) if raft.configuration is not None else 1,
        role=raft.role,
        term=raft.term,
        leader_id=raft.leader,
        leader_addr=leader,
        voted_for=raft.vote,
        first_index=raft.first_index,
        last_index=raft.last_index,
        last_term=raft.last_term,
        commit_index=raft.commit_index,
        applied_index=state.applied_index,
        members=members,
        fsync_count=log.fsync_count,
        fsync_max_us=log.fsync_us_max,
        fsync_avg_us=log.fsync_us_total // max(1, log.fsync_count),
        log_file_bytes=log.size_bytes,
        snapshot_index=state.durable.index,
        snapshot_term=state.durable.term,
        snapshots_created=replica.counters.flushes,
        snapshots_received=replica.counters.snapshots_installed,
        proxy_reqs=replica.counters.forwards_sent,
        proxy_outstanding_reqs=0 if raft.role is Role.LEADER else state.outstanding,
    )


def snapshots(node: Node[Any]) -> list[SnapshotStatus]:
    """Return the states that a node keeps."""
    durable = node.replica.status().durable
    return [
        SnapshotStatus(
            number=node.states.number,
            index=durable.index,
            term=durable.term,
            time_ms=durable.time_ms,
            size_bytes=_size_of(node.states.path),
            sent_to=node.states.sending,
        )
    ]


def readiness(replica: Replica) -> tuple[bool, str]:
    """Return whether clients should be sent here, and a line that says why (not)."""
    state = replica.status()
    raft = state.raft
    if state.refused:
        return False, f"refused by the cluster: {state.refused}"
    if state.loading:
        return False, f"replaying the log: {state.applied_index} of {raft.commit_index} entries applied"
    if raft.configuration is None:
        if state.waiting:
            return False, "belongs to no cluster: waits for RAFT.CLUSTER INIT or RAFT.CLUSTER JOIN"
        return False, "the cluster has not formed: its first start needs all members"
    if raft.leader == NOBODY:
        return False, "no leader known"
    if raft.commit_term < raft.term:
        return False, f"not told yet how much is committed in term {raft.term}"
    if raft.commit_index - state.applied_index > READY_ENTRIES_MAX:
        return False, f"behind: {state.applied_index} of {raft.commit_index} entries applied"
    return True, f"ready: node {raft.id} is {raft.role} in term {raft.term}"


class Figures:
    """Brings the metrics up to date: histograms at every `collect`, gauges and counters at an exposition."""

    def __init__(self, server: "Server") -> None:
        """Look at the parts of `server` from now on."""
        self._server = server
        self._totals: dict[int, float] = {}
        self._peers: set[NodeId] = set()  # Whose figures are shown.
        self._leader = NOBODY

    def collect(self) -> None:
        """Move what has been sampled into the histograms. Called about once a second, so samples stay few."""
        driver = self._server.driver
        samples = self._server.replica.take_samples()
        _observe(metrics.COMMAND_SECONDS, samples.batch_ms, 0.001)
        _observe(metrics.BATCH_COMMANDS, samples.batch_commands, 1.0)
        _observe(metrics.READ_BARRIER_SECONDS, samples.barrier_ms, 0.001)
        timings = driver.take_timings()
        _observe(metrics.TURN_SECONDS, timings.turn_s, 1.0)
        _observe(metrics.APPLY_SECONDS, timings.apply_s, 1.0)
        _observe(metrics.LOG_FSYNC_SECONDS, timings.fsync_s, 1.0)
        _observe(metrics.LOOP_LAG_SECONDS, timings.lag_s, 1.0)
        _observe(metrics.STATE_FLUSH_SECONDS, self._server.node.states.take_flush_seconds(), 1.0)
        leader = self._server.replica.leader
        if leader not in (NOBODY, self._leader):
            self._leader = leader
            metrics.LEADER_CHANGES.inc()

    def update(self) -> None:
        """Set everything that is read from a snapshot. Called before an exposition."""
        self.collect()
        server = self._server
        state = server.replica.status()
        self._set_raft(state)
        self._set_replica(state)
        self._set_storage()
        self._set_clients(server.counters())
        peers = server.node.network.status()
        self._forget_peers(self._peers - peers.keys())
        self._peers = set(peers)
        for peer_id, peer in sorted(peers.items()):
            self._set_peer(str(peer_id), peer)
        for peer_id, seconds in sorted(server.driver.round_trip_s.items()):
            metrics.PEER_ROUND_TRIP_SECONDS.labels(str(peer_id)).set(seconds)

    def _set_raft(self, state: ReplicaStatus) -> None:
        raft = state.raft
        metrics.HAS_LEADER.set(raft.leader != NOBODY)
        metrics.IS_LEADER.set(raft.role is Role.LEADER)
        configuration = raft.configuration
        member = configuration.member(raft.id) if configuration is not None else None
        metrics.IS_LEARNER.set(member is not None and not member.voter)
        metrics.MEMBERS.set(len(configuration.members) if configuration is not None else 0)
        metrics.VOTERS.set(len(configuration.voters()) if configuration is not None else 0)
        metrics.MEMBERSHIP_CHANGING.set(configuration is not None and not configuration.settled)
        metrics.TERM.set(raft.term)
        metrics.COMMIT_INDEX.set(raft.commit_index)
        metrics.APPLIED_INDEX.set(state.applied_index)
        metrics.LAST_INDEX.set(raft.last_index)
        metrics.LOG_ENTRIES.set(raft.last_index + 1 - raft.first_index)
        metrics.DURABLE_INDEX.set(state.durable.index)
        metrics.LOG_CLOCK_SKEW_SECONDS.set(state.skew_ms / 1000)

    def _set_replica(self, state: ReplicaStatus) -> None:
        counters = self._server.replica.counters
        self._raise(metrics.PROPOSALS_COMMITTED, counters.own_batches)
        self._raise(metrics.HANDOVERS_BEGUN, state.handovers_begun)
        self._raise(metrics.HANDOVERS_DONE, state.handovers_done)
        self._raise(metrics.COMMANDS_READ_STALE, counters.reads_stale)
        self._raise(metrics.PROPOSALS_REFUSED, state.refused_total)
        self._raise(metrics.PROPOSALS_LOST, state.lost_total)
        self._raise(metrics.COMMANDS_WRITE, counters.own_commands)
        self._raise(metrics.COMMANDS_READ, counters.reads_answered)
        self._raise(metrics.COMMANDS_LOCAL, self._server.local_commands_total)
        self._raise(metrics.READ_ROUNDS, counters.barriers_asked)
        self._raise(metrics.FORWARDED_BATCHES, counters.forwards_sent)
        self._raise(metrics.DUPLICATES_SKIPPED, counters.batches_skipped)
        self._raise(metrics.SNAPSHOTS_INSTALLED, counters.snapshots_installed)
        self._raise(metrics.REPLIES_LOST, counters.replies_lost)
        metrics.PENDING_BATCHES.set(state.outstanding)
        metrics.IN_FLIGHT_BYTES.set(state.in_flight_bytes)

    def _set_storage(self) -> None:
        server = self._server
        self._raise(metrics.LOG_WRITTEN_BYTES, server.node.log_store.status().written_bytes)
        metrics.STATE_KEYS.set(sum(size.keys for size in server.database_sizes().values()))
        data_dir = server.node_config.node.data_dir
        metrics.DISK_BYTES_RAFT.set(_size_of(data_dir / "raft"))
        metrics.DISK_BYTES_STATE.set(_size_of(data_dir / "state"))
        states = server.node.states.counters
        self._raise(metrics.SNAPSHOTS_SENT, states.sent)
        self._raise(metrics.SNAPSHOTS_RECEIVED, states.received)
        self._raise(metrics.SNAPSHOTS_FAILED, states.failed)
        self._raise(metrics.SNAPSHOT_SENT_BYTES, states.sent_bytes)
        self._raise(metrics.SNAPSHOT_RECEIVED_BYTES, states.received_bytes)
        metrics.SNAPSHOTS_UNDER_WAY.set(len(server.node.states.sending))

    def _set_clients(self, counters: Counters) -> None:
        metrics.CONNECTED_CLIENTS.set(self._server.clients_total)
        if self._server.crew is not None:
            self._raise(metrics.WORKER_RESTARTS, self._server.crew.restarts)
            for number, count in self._server.crew.clients_by_worker().items():
                metrics.WORKER_CLIENTS.labels(str(number)).set(count)
        self._raise(metrics.REJECTED_CONNECTIONS, counters.rejected)
        self._raise(metrics.CLIENT_RECEIVED_BYTES, counters.input_bytes)
        self._raise(metrics.CLIENT_SENT_BYTES, counters.output_bytes)

    def _forget_peers(self, gone: set[NodeId]) -> None:
        """A node that was removed must not be shown as unreachable for ever."""
        for peer_id in gone:
            label = str(peer_id)
            for counter in (metrics.PEER_SENT_BYTES, metrics.PEER_RECEIVED_BYTES, metrics.PEER_DROPPED):
                self._totals.pop(id(counter.labels(label)), None)
                counter.remove(label)
            for gauge in (metrics.PEER_CONNECTED, metrics.PEER_ROUND_TRIP_SECONDS):
                gauge.labels(label)  # Whether it had one or not.
                gauge.remove(label)
            self._server.driver.round_trip_s.pop(peer_id, None)

    def _set_peer(self, label: str, peer: PeerStatus) -> None:
        metrics.PEER_CONNECTED.labels(label).set(peer.connected)
        self._raise(metrics.PEER_SENT_BYTES.labels(label), peer.bytes_sent)
        self._raise(metrics.PEER_RECEIVED_BYTES.labels(label), peer.bytes_received)
        self._raise(metrics.PEER_DROPPED.labels(label), peer.messages_dropped)

    def _raise(self, counter: Counter, total: float) -> None:
        """Bring a counter to a total that is kept elsewhere: counting there costs nothing per event."""
        key = id(counter)  # Labelled children live as long as their metric does.
        counter.inc(total - self._totals.get(key, 0))
        self._totals[key] = total


def _observe(histogram: Histogram, samples: Iterable[float], scale: float) -> None:
    for sample in samples:
        histogram.observe(sample * scale)


def _members(
    raft: RaftStatus, peers: Mapping[NodeId, PeerStatus], node_id: NodeId
) -> tuple[MemberStatus, ...]:
    if raft.configuration is None:
        return ()
    progress = {peer.id: peer.match_index for peer in raft.peers}
    progress[node_id] = raft.stable_index
    members = []
    for member in raft.configuration.members:
        peer = peers.get(member.id)
        age_s = peer.last_connect_age_s if peer is not None else -1.0
        members.append(
            MemberStatus(
                id=member.id,
                peer=member.peer,
                client=member.client,
                voter=raft.configuration.is_voter(member.id),
                becoming=_becoming(raft.configuration, member),
                match_index=progress.get(member.id),
                connected=member.id == node_id or (peer is not None and peer.connected),
                conn_oks=peer.dial_oks if peer is not None else 0,
                conn_errors=peer.dial_errors if peer is not None else 0,
                last_conn_secs=int(age_s) if age_s >= 0 else None,
            )
        )
    return tuple(members)


def _node_state(node: Node[Any], state: ReplicaStatus) -> NodeState:
    if state.refused:
        return NodeState.REFUSED
    if state.loading:
        return NodeState.LOADING
    if state.raft.configuration is not None:
        return NodeState.UP
    return NodeState.UNINITIALIZED if state.waiting else NodeState.JOINING


def _membership(configuration: Configuration | None) -> str:
    if configuration is None:
        return "none"
    if configuration.old_voters:
        return "joint"
    return "settled" if configuration.settled else "planned"


def _becoming(configuration: Configuration, member: Member) -> str:
    if configuration.settled:
        return ""
    target = {each.id: each for each in outcome_of(configuration)}
    if member.id not in target:
        return "removed"
    votes = configuration.is_voter(member.id)
    wanted = target[member.id].voter
    return "" if votes == wanted else "voter" if wanted else "learner"


def _size_of(directory: Path) -> int:
    """Bytes of the files below `directory`. RocksDB may delete one while it is looked at."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
