"""What a node shows to Prometheus: every metric, defined here and nowhere else, touched by `server/` alone.

Names carry the base unit, labels are bounded (an outcome, a kind, a peer's id; never a key, an address or an
error text), and the help says how to read the figure. Counters that grow per command are increased
once per batch. Sizes and positions are gauges, which cost nothing until someone looks: append a function that
sets them to `before_render`.

    from respraft import metrics
    metrics.before_render.append(lambda: metrics.COMMIT_INDEX.set(node.commit_index))
    metrics.PROPOSALS_COMMITTED.inc()

`grafana/` and `conf/alerts.yml` are held to these names by a test.
"""

import gc
import time
from collections.abc import Callable
from typing import Any, Final, cast

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from respraft import __version__

REGISTRY: Final = CollectorRegistry()
"""Not the library's global one: what is exposed is what stands here."""

before_render: Final[list[Callable[[], None]]] = []
"""Called before each exposition, in order, to set gauges from status snapshots."""

# Bucket bounds in seconds, from what the quickest machine does to what is certainly a fault.
_LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_DISK_BUCKETS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
_LOOP_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
_COUNT_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

# --- Raft -----------------------------------------------------------------------------------------------

HAS_LEADER: Final = Gauge(
    "respraft_has_leader",
    "1 while this node knows a leader. 0 for longer than an election takes: no quorum, or cut off from it.",
    registry=REGISTRY,
)
IS_LEADER: Final = Gauge(
    "respraft_is_leader",
    "1 while this node leads. The sum over a cluster is 1; a moment of 2 is an old leader that is cut off.",
    registry=REGISTRY,
)
IS_LEARNER: Final = Gauge(
    "respraft_is_learner",
    "1 while this node is a member without a vote: it catches up, or stays a learner on purpose.",
    registry=REGISTRY,
)
MEMBERS: Final = Gauge(
    "respraft_members",
    "Members of the cluster as this node's log has it, learners included. 0: it belongs to no cluster.",
    registry=REGISTRY,
)
VOTERS: Final = Gauge(
    "respraft_voters",
    "Members whose votes are asked for. More than half of them must be up for anything to be decided.",
    registry=REGISTRY,
)
MEMBERSHIP_CHANGING: Final = Gauge(
    "respraft_membership_changing",
    "1 while a change of the membership is under way. For minutes: a new node cannot catch up, or is down.",
    registry=REGISTRY,
)
TERM: Final = Gauge(
    "respraft_term",
    "Raft term. Grows by elections only, so its slope is how unstable leadership is.",
    registry=REGISTRY,
)
LEADER_CHANGES: Final = Counter(
    "respraft_leader_changes_total",
    "Times this node saw another leader than before. More than a few an hour: look at round trips, fsyncs "
    "and event loop lag.",
    registry=REGISTRY,
)
HANDOVERS: Final = Counter(
    "respraft_handovers_total",
    "Times this node, as the leader, began to hand leadership over (begun), and times that another one then "
    "led (done): by RAFT.TRANSFER_LEADER, and when a leader is stopped. Begun without done: the successor "
    "did not answer in time.",
    ["outcome"],
    registry=REGISTRY,
)
HANDOVERS_BEGUN: Final = HANDOVERS.labels("begun")
HANDOVERS_DONE: Final = HANDOVERS.labels("done")
COMMIT_INDEX: Final = Gauge(
    "respraft_commit_index",
    "Last log index known to be on a majority of disks. Its rate is log entries a second, not commands.",
    registry=REGISTRY,
)
APPLIED_INDEX: Final = Gauge(
    "respraft_applied_index",
    "Last log index applied to the keyspace. Far below the commit index: this node replays or is too slow.",
    registry=REGISTRY,
)
LAST_INDEX: Final = Gauge(
    "respraft_last_index",
    "Last index in this node's log. Above the commit index lies what waits for a majority.",
    registry=REGISTRY,
)
LOG_CLOCK_SKEW_SECONDS: Final = Gauge(
    "respraft_log_clock_skew_seconds",
    "The log's time less this machine's clock. Far from 0, time-outs of keys run early or late by as much: "
    "set the clocks.",
    registry=REGISTRY,
)

# --- The way of a command -------------------------------------------------------------------------------

COMMANDS: Final = Counter(
    "respraft_commands_total",
    "Commands of this node's clients that were answered. 'write' went through the log, 'read' through a read "
    "barrier, 'local' concerns the connection or the node only.",
    ["kind"],  # read | write | local
    registry=REGISTRY,
)
COMMANDS_READ: Final = COMMANDS.labels("read")
COMMANDS_WRITE: Final = COMMANDS.labels("write")
COMMANDS_LOCAL: Final = COMMANDS.labels("local")

PROPOSALS: Final = Counter(
    "respraft_proposals_total",
    "Batches of writes from this node's clients, by outcome. 'refused' were not executed and may be sent "
    "again. 'lost' means the client was told the outcome is unknown; a steady rate of it means leadership is "
    "unstable.",
    ["outcome"],  # committed | refused | lost
    registry=REGISTRY,
)
PROPOSALS_COMMITTED: Final = PROPOSALS.labels("committed")
PROPOSALS_REFUSED: Final = PROPOSALS.labels("refused")
PROPOSALS_LOST: Final = PROPOSALS.labels("lost")

BATCH_COMMANDS: Final = Histogram(
    "respraft_batch_commands",
    "Writes per batch. Grows with load by itself: that is how one fsync comes to serve many clients.",
    buckets=_COUNT_BUCKETS,
    registry=REGISTRY,
)
COMMAND_SECONDS: Final = Histogram(
    "respraft_command_seconds",
    "From a write's arrival to its reply, the oldest command of each batch: an upper bound for the others.",
    buckets=_LATENCY_BUCKETS,
    registry=REGISTRY,
)
READ_BARRIER_SECONDS: Final = Histogram(
    "respraft_read_barrier_seconds",
    "How long reads waited for proof that nothing newer exists, per shared barrier. About one round trip.",
    buckets=_LATENCY_BUCKETS,
    registry=REGISTRY,
)
COMMANDS_READ_STALE: Final = Counter(
    "respraft_stale_reads_total",
    "Reads of connections that sent READONLY which were answered from a state that need not be the newest. "
    "They are among the reads of respraft_commands_total.",
    registry=REGISTRY,
)
READ_ROUNDS: Final = Counter(
    "respraft_read_rounds_total",
    "Read barriers asked for. Far fewer than reads under load, since all that wait share one.",
    registry=REGISTRY,
)
FORWARDED_BATCHES: Final = Counter(
    "respraft_forwarded_batches_total",
    "Batches handed to another node as the leader, repeats included.",
    registry=REGISTRY,
)
DUPLICATES_SKIPPED: Final = Counter(
    "respraft_duplicates_skipped_total",
    "Log entries skipped because their batch was applied before or its session had ended: what keeps a "
    "write from counting twice after a failover.",
    registry=REGISTRY,
)
PENDING_BATCHES: Final = Gauge(
    "respraft_pending_batches",
    "Batches of this node's clients that wait for their commit, or for a leader.",
    registry=REGISTRY,
)
IN_FLIGHT_BYTES: Final = Gauge(
    "respraft_in_flight_bytes",
    "Their size. At client.in_flight_bytes_max sockets are no longer read.",
    registry=REGISTRY,
)
APPLY_SECONDS: Final = Histogram(
    "respraft_apply_seconds",
    "Length of a turn's work when it applied committed entries, on the event loop: nothing else happens "
    "meanwhile.",
    buckets=_DISK_BUCKETS,
    registry=REGISTRY,
)

# --- Storage --------------------------------------------------------------------------------------------

LOG_FSYNC_SECONDS: Final = Histogram(
    "respraft_log_fsync_seconds",
    "Time for one durable log append, whole batch. Bounds write latency from below.",
    buckets=_DISK_BUCKETS,
    registry=REGISTRY,
)
LOG_WRITTEN_BYTES: Final = Counter(
    "respraft_log_written_bytes_total",
    "Entry payload written to the log. The disk sees more: framing, and the state that it becomes.",
    registry=REGISTRY,
)
LOG_ENTRIES: Final = Gauge(
    "respraft_log_entries",
    "Entries in the log. Goes up and down between cuts; one that only grows is not being cut: compare "
    "respraft_state_durable_index with respraft_applied_index.",
    registry=REGISTRY,
)
DURABLE_INDEX: Final = Gauge(
    "respraft_state_durable_index",
    "Log entry up to which the state was flushed. What lies behind it is replayed after a crash.",
    registry=REGISTRY,
)
STATE_FLUSH_SECONDS: Final = Histogram(
    "respraft_state_flush_seconds",
    "Time for a flush of the state, on a thread; the log is cut behind it. Its count is the number of cuts.",
    buckets=_LATENCY_BUCKETS,
    registry=REGISTRY,
)
SNAPSHOTS: Final = Counter(
    "respraft_snapshots_total",
    "Whole states, by what became of them. 'sent': brought to a node that was too far behind. 'received': "
    "arrived here. 'installed': took the place of this node's. 'failed': could not be brought or opened; "
    "that is tried again, but a node that never gets there is none that counts.",
    ["outcome"],  # sent | received | installed | failed
    registry=REGISTRY,
)
SNAPSHOTS_SENT: Final = SNAPSHOTS.labels("sent")
SNAPSHOTS_RECEIVED: Final = SNAPSHOTS.labels("received")
SNAPSHOTS_INSTALLED: Final = SNAPSHOTS.labels("installed")
SNAPSHOTS_FAILED: Final = SNAPSHOTS.labels("failed")
SNAPSHOTS_UNDER_WAY: Final = Gauge(
    "respraft_snapshots_under_way",
    "Nodes that this one is bringing its state to. The log behind that state is kept meanwhile.",
    registry=REGISTRY,
)
SNAPSHOT_SENT_BYTES: Final = Counter(
    "respraft_snapshot_sent_bytes_total", "Bytes of states brought to other nodes.", registry=REGISTRY
)
SNAPSHOT_RECEIVED_BYTES: Final = Counter(
    "respraft_snapshot_received_bytes_total", "Bytes of states that arrived here.", registry=REGISTRY
)
REPLIES_LOST: Final = Counter(
    "respraft_snapshot_replies_lost_total",
    "Groups of commands that were applied through a state of another node: their clients were told so.",
    registry=REGISTRY,
)
STATE_KEYS: Final = Gauge(
    "respraft_state_keys",
    "Keys in all databases; some whose time is over but which were not yet removed are among them.",
    registry=REGISTRY,
)
DISK_BYTES: Final = Gauge(
    "respraft_disk_bytes",
    "Bytes of files in the data directory.",
    ["part"],  # raft | state
    registry=REGISTRY,
)
DISK_BYTES_RAFT: Final = DISK_BYTES.labels("raft")
DISK_BYTES_STATE: Final = DISK_BYTES.labels("state")

# --- Clients --------------------------------------------------------------------------------------------

CONNECTED_CLIENTS: Final = Gauge("respraft_connected_clients", "Open client connections.", registry=REGISTRY)
REJECTED_CONNECTIONS: Final = Counter(
    "respraft_rejected_connections_total",
    "Connections closed at once because client.max_clients were there.",
    registry=REGISTRY,
)
CLIENT_RECEIVED_BYTES: Final = Counter(
    "respraft_client_received_bytes_total", "Bytes that clients sent.", registry=REGISTRY
)
CLIENT_SENT_BYTES: Final = Counter("respraft_client_sent_bytes_total", "Bytes of replies.", registry=REGISTRY)

WORKER_CLIENTS: Final = Gauge(
    "respraft_worker_clients",
    "Open client connections of each worker (server.workers). The kernel spreads them by their addresses.",
    ["worker"],
    registry=REGISTRY,
)
WORKER_RESTARTS: Final = Counter(
    "respraft_worker_restarts_total",
    "Workers that ended when nobody had told them to, and took their clients' connections along.",
    registry=REGISTRY,
)

# --- Peers; the label is the peer's node id -------------------------------------------------------------

PEER_CONNECTED: Final = Gauge(
    "respraft_peer_connected",
    "1 while this node's link to the peer stands. Each node dials every other.",
    ["peer"],
    registry=REGISTRY,
)
PEER_SENT_BYTES: Final = Counter(
    "respraft_peer_sent_bytes_total", "Bytes sent to the peer.", ["peer"], registry=REGISTRY
)
PEER_RECEIVED_BYTES: Final = Counter(
    "respraft_peer_received_bytes_total", "Bytes received from the peer.", ["peer"], registry=REGISTRY
)
PEER_DROPPED: Final = Counter(
    "respraft_peer_dropped_total",
    "Messages to the peer that were dropped since the link was down or its queue full. Raft makes them good.",
    ["peer"],
    registry=REGISTRY,
)
PEER_ROUND_TRIP_SECONDS: Final = Gauge(
    "respraft_peer_round_trip_seconds",
    "Last time from a heartbeat to its echo, on the leader. Near the election timeout, leaders will change.",
    ["peer"],
    registry=REGISTRY,
)

# --- The process ----------------------------------------------------------------------------------------

LOOP_LAG_SECONDS: Final = Histogram(
    "respraft_loop_lag_seconds",
    "How late the event loop ran a timer. Everything on this node waits at least as long.",
    buckets=_LOOP_BUCKETS,
    registry=REGISTRY,
)
TURN_SECONDS: Final = Histogram(
    "respraft_turn_seconds",
    "Length of one turn of the driver: gather, step, send, apply, reply.",
    buckets=_LOOP_BUCKETS,
    registry=REGISTRY,
)
GC_PAUSE_SECONDS: Final = Histogram(
    "respraft_gc_pause_seconds",
    "Pauses by Python's cyclic garbage collector. It is frozen after start, so these are few and short.",
    buckets=_LOOP_BUCKETS,
    registry=REGISTRY,
)
BUILD_INFO: Final = Gauge(
    "respraft_build_info", "Always 1; the label is the version.", ["version"], registry=REGISTRY
)
BUILD_INFO.labels(__version__).set(1)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)
# The time at which a counter was created says nothing that process_start_time_seconds does not.
cast(Callable[[], None], prometheus_client.disable_created_metrics)()


def render() -> bytes:
    """Everything in the Prometheus text format, with gauges brought up to date by `before_render`."""
    for update in before_render:
        update()
    return prometheus_client.generate_latest(REGISTRY)


def watch_garbage_collector() -> Callable[[], None]:
    """Observe the length of every collection from now on; returns what ends it."""
    began = 0.0

    def observe(phase: str, _info: dict[str, Any]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            GC_PAUSE_SECONDS.observe(time.perf_counter() - began)

    gc.callbacks.append(observe)
    return lambda: gc.callbacks.remove(observe)
