"""What a seed draws: the size of the cluster, its settings, which faults there are and how hard they are.

Swarm style: each fault is absent in many runs, because a run with everything at once mostly shows that
nothing gets done, and two faults together find what ten hide.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from respraft.config import READ_MODES, TICK_MS, RaftConfig

SIZES: Final = (1, 2, 3, 3, 3, 3, 4, 5, 5, 7)

WITHOUT_NEWER: Final[Mapping[str, Any]] = {
    "rejoins": 0.0,
    "gathered": 0,
    "opening_crashes": 0.0,
    "pack_bytes_min": 1024,
}
"""The weather without what was thought of later: so a seed is the run that it was before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """One run's weather. Rates are per second of virtual time and cluster, unless they say otherwise."""

    nodes: int
    raft: RaftConfig
    pack_bytes_min: int  # In place of that of `raft`: here most batches are small.
    park_ms: int
    request_timeout_ms: int

    # The network. The contract of `peer/` is no loss while a link stands, and order; some runs are harsher.
    loss: float  # Share of messages that vanish though the link stands.
    repeat: float  # Share of messages that arrive twice.
    in_order: bool  # False: every message takes its own time.
    strays: bool  # Messages outlive the link that they were sent on.
    delay_us: int  # Usual time on the way,
    delay_tail: float  # and the share of messages that take up to fifty times as long.
    cuts: float  # One-way cuts: of one link, or of all that lead to a node, or away from it.
    slows: float  # Links of a node that take up to an election timeout longer, for a while.
    partitions: float
    resets: float  # Links that end for no reason.
    fences: float  # A middlebox ends all links with a node, and refuses new ones.

    # Processes and disks.
    crashes: float
    restarts: float  # One follower after the other is restarted, while a middlebox parts one from the leader.
    kills: float  # Share of crashes that leave the machine up: peers see links end and dials refused.
    storage_crashes: float  # Share of storage operations right behind which the power fails.
    down_ms: int  # How long a dead node stays dead, at most.
    torn: bool  # A crash leaves a piece of the last write.
    gathered: int  # Records that gather in memory before they go down; 0: each write goes to the disk.
    piece_puts: int  # Records at once of a step that goes down in pieces.
    half_steps: float  # Share of crashes amid a step that leave half of it: the node is lost with its disk.
    flushes: float  # How often somebody wants a node's state flushed and its log cut, per node.
    write_us: int  # Usual time of a log write,
    slow_writes: float  # and the share of writes that take up to a hundred times as long.
    writes_at_once: float  # The share of writes that the loop waits for.
    transfer_us: int  # Longest time that it takes to bring a state to a peer, if nothing breaks.
    broken_transfers: float  # Share of a transfer's messages with which its connection ends,
    opening_crashes: float  # Share of states with which the node dies that has received and opens them.
    garbled: float  # and of its chunks that are damaged on the way.
    failed_syncs: float  # Share of syncs that fail; the node stops.
    pauses: float
    wipes: float  # At most one node per run, and none without a majority besides.
    rejoins: float  # As many as it comes to, one after the other: who was lost comes back with a new id.

    leaders_share: float  # How often a fault that has one victim looks for a leader.

    # What operators ask for.
    transfers: float  # Of leadership.
    changes: float  # Of the membership.

    # Clocks.
    drift: float  # Largest error of a node's monotonic clock.
    wall_spread_ms: int  # Wall clocks begin so far apart, at most,
    jumps: float  # and jump as far.

    looks: float  # Share of turns after which the state is compared with others', which writes it.

    # Clients.
    clients: int
    crowd: float  # Share of clients that stay with one and the same node.
    think_ms: int  # Longest pause between two groups.
    group_max: int  # Commands in a group.
    readers: float  # Share of clients that only read.
    stale: float  # Share of reading groups that take a state which is
    max_stale_ms: int  # so old, at most.
    impatient: float  # Share of groups whose client hangs up early.


def draw(rng: random.Random) -> Faults:
    """Draw one run's faults."""

    def some(*values: float, absent: float = 0.5) -> float:
        return 0.0 if rng.random() < absent else rng.choice(values)

    # For what was thought of later: it takes nothing out of `rng` (`WITHOUT_NEWER`).
    copy = random.Random()
    copy.setstate(rng.getstate())
    later = random.Random(copy.getrandbits(64))

    nodes = rng.choice(SIZES)
    park_ms = rng.choice((100, 400, 3000))
    return Faults(
        nodes=nodes,
        raft=_draw_raft(rng),
        park_ms=park_ms,
        request_timeout_ms=max(park_ms, rng.choice((150, 600, 3000))),
        loss=some(0.01, 0.1, 0.3),
        repeat=some(0.02, 0.2),
        in_order=rng.random() < 0.5,
        strays=rng.random() < 0.3,
        delay_us=rng.choice((100, 1_000, 8_000)),
        delay_tail=some(0.01, 0.1),
        cuts=some(0.4, 2.0),
        partitions=some(0.4, 2.0),
        resets=some(0.5, 4.0),
        fences=some(0.4, 2.0, absent=0.7),
        crashes=some(0.4, 2.0),
        kills=rng.choice((0.0, 0.5, 1.0)),
        storage_crashes=some(0.001, 0.01, absent=0.7),
        down_ms=rng.choice((20, 300, 2000)),
        torn=rng.random() < 0.5,
        flushes=rng.choice((0.0, 0.3, 5.0)),
        write_us=rng.choice((50, 300, 5_000)),
        slow_writes=some(0.02, 0.2),
        writes_at_once=rng.choice((0.0, 0.5, 1.0)),
        transfer_us=rng.choice((5_000, 200_000, 1_000_000)),
        failed_syncs=some(0.002, absent=0.7),
        pauses=some(0.4, 2.0),
        wipes=some(0.1, absent=0.7) if nodes >= 3 else 0.0,
        rejoins=later.choice((0.0, 0.0, 0.4, 2.0)) if nodes >= 3 else 0.0,
        gathered=later.choice((0, 4, 30, 300)),
        piece_puts=later.choice((1, 5)),
        half_steps=later.choice((0.0, 0.5)),
        opening_crashes=later.choice((0.0, 0.0, 0.3)),
        pack_bytes_min=later.choice((0, 1024)),
        leaders_share=rng.choice((0.0, 0.5, 0.9)),
        transfers=some(0.4, 4.0),
        changes=some(0.7, 3.0),
        drift=some(0.001, 0.05),
        wall_spread_ms=rng.choice((0, 50, 3000)),
        jumps=some(0.4, 2.0),
        looks=rng.choice((0.1, 1.0)),
        clients=rng.choice((2, 5, 10)),
        crowd=some(0.5, 1.0),
        think_ms=rng.choice((20, 60, 200)),
        group_max=rng.choice((1, 4, 8)),
        impatient=some(0.1, absent=0.7),
        stale=some(0.2, 1.0, absent=0.6),
        max_stale_ms=rng.choice((20, 100, 1000)),
        slows=some(0.4, 2.0, absent=0.7),
        readers=some(0.5, absent=0.7),
        restarts=some(0.4, absent=0.7),
        broken_transfers=some(0.02, 0.2),
        garbled=some(0.02, 0.1, absent=0.7),
    )


def _draw_raft(rng: random.Random) -> RaftConfig:
    """Short times, so that much happens in few ticks, and bounds low enough to be reached."""
    heartbeat_ms = rng.choice((1, 2, 4)) * TICK_MS
    return RaftConfig(
        heartbeat_ms=heartbeat_ms,
        election_timeout_ms=heartbeat_ms * rng.choice((5, 8)),
        append_bytes_max=rng.choice((1, 200, 1 << 20)),
        inflight_appends_max=rng.choice((1, 3, 128)),
        inflight_bytes_max=rng.choice((1, 300, 16 << 20)),
        entry_cache_bytes=rng.choice((0, 1000, 16 << 20)),
        batch_commands_max=rng.choice((1, 3, 4096)),
        batch_bytes_max=rng.choice((1, 100, 1 << 20)),
        read_mode=rng.choice(READ_MODES),
        compact_bytes=rng.choice((1024, 5_000, 1 << 20)),
        compact_entries=rng.choice((2, 20, 50_000)),
        keep_bytes=rng.choice((0, 1_000, 1 << 20)),
        keep_entries=rng.choice((0, 10, 10_000)),
        keep_bytes_max=rng.choice((1024, 10_000, 1 << 20)),
    )
