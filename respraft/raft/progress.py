"""What a leader knows of one peer's log, and what it may send there next.

A peer is in one of three states:

* **probing**: where the logs agree is not known. One append at a time; its answer settles it, or names
  a better place to try.
* **streaming**: everything sent is expected to fit. Appends follow each other without waiting for
  answers, as far as the window (appends and bytes in flight) allows. A refusal means that something was
  lost, and leads back to probing.
* **snapshot**: it needs entries that are gone from the leader's log. It is sent no entries until the transfer
  of a state has ended, or until it says that it has everything up to the log's base after all. That word
  may be lost on its way, so whoever answers heartbeats is asked for it with every one.

A node that doesn't answer is sent nothing but heartbeats: its first answer to one is what lets a probe
that went unanswered be repeated. The window bounds what a slow peer costs: entries that wait for it stay in
the log, once, and are not copied into queues.

Whether a peer *keeps up* is measured in rounds, for those who shall get a vote (`membership.py`).
"""

from collections import deque

from respraft.raft.message import Index


class Progress:
    """One peer as its leader sees it. Dies with the leadership."""

    __slots__ = (
        "acked_round",
        "check_due",
        "heard_tick",
        "hint_index",
        "inflight",
        "inflight_bytes",
        "keeps_up",
        "left_index",
        "left_tick",
        "link_ended",
        "match_index",
        "next_index",
        "paused",
        "probe_last",
        "probing",
        "round_index",
        "round_tick",
        "sent_tick",
        "snapshot",
        "told_commit",
        "wanted_commit",
    )

    def __init__(self, next_index: Index, tick: int) -> None:
        self.match_index: Index = 0  # The logs agree up to here, and the peer has it on disk.
        self.next_index = next_index  # First entry of the next append; always above match_index.
        self.probing = True
        self.paused = False  # Probing: a probe is out and not answered.
        self.snapshot = False  # Probing, but only once the transfer of a state has ended.
        self.probe_last: Index = next_index - 1  # Last index of that probe; its base while none is out.
        self.check_due = False  # An answer stands out for long; ask whether the log (still) fits.
        self.inflight: deque[tuple[Index, int]] = deque()  # Last index and bytes of each unanswered append.
        self.inflight_bytes = 0
        self.hint_index: Index = 0  # Snapshot: where its log ended, when it was last asked for the base.
        self.sent_tick = tick  # When the last append left.
        self.heard_tick = tick  # When anything came; a new leader gives everyone one election timeout.
        self.link_ended = False  # The link to it has ended, and nothing was heard of it since.
        self.acked_round = 0  # Highest heartbeat round that came back.
        self.told_commit: Index = 0  # Highest commit index it was told along with an append.
        self.wanted_commit: Index = 0  # Clients there wait for the commit of entries up to here.
        self.round_index: Index = next_index  # A round of catching up ends when the peer has this,
        self.round_tick = tick  # and began then.
        self.keeps_up = False  # The last round took no longer than it may, and neither has this one so far.
        self.left_index: Index = 0  # The configuration that is without this peer; 0: it is a member.
        self.left_tick = 0  # When that was appended.

    def is_alive(self, oldest_tick: int) -> bool:
        """Whether it was heard later than that, and over a link that has not ended."""
        return self.heard_tick > oldest_tick and not self.link_ended

    def heard(self, tick: int) -> None:
        """It has answered something."""
        self.heard_tick = tick
        self.link_ended = False

    def sent(self, last_index: Index, size: int, tick: int) -> None:
        """An append that ends with `last_index` is on its way; one without entries ends with its base.

        While streaming, each append lies behind all those before it, so that it also asks whether they came.
        """
        self.sent_tick = tick
        self.check_due = False
        if self.probing:
            self.paused = True
            self.probe_last = last_index
        elif last_index >= self.next_index:
            self.next_index = last_index + 1
            self.inflight.append((last_index, size))
            self.inflight_bytes += size

    def asked(self, tick: int) -> None:
        """It is being asked whether it has the state that it is sent."""
        self.sent_tick = tick
        self.check_due = False

    def accepted(self, match_index: Index) -> bool:
        """The peer has everything up to `match_index` on disk. Returns whether that is news.

        It ends probing if it answers the probe. Acceptances wait for a disk and refusals don't, so after a
        gap in a stream those of what came before the gap arrive last: taken for the probe's answer, each
        of them would start the stream again from there.
        """
        news = match_index > self.match_index
        if news:
            self.match_index = match_index
        inflight = self.inflight
        while inflight and inflight[0][0] <= match_index:
            self.inflight_bytes -= inflight.popleft()[1]
        if self.probing and not self.snapshot and match_index >= self.probe_last:
            self.probing = self.paused = False
            self.next_index = self.match_index + 1
        self.next_index = max(self.next_index, self.match_index + 1)
        return news

    def refused(self, reject_index: Index, retry_index: Index) -> None:
        """The peer has not what was assumed at `reject_index`; `retry_index` is the best next guess.

        A late refusal of an older append says nothing about what is out now and changes nothing.
        """
        if self.snapshot:
            return
        if reject_index <= self.match_index or (self.probing and reject_index != self.next_index - 1):
            return
        self.probe(max(self.match_index, min(retry_index, reject_index - 1)) + 1)

    def probe(self, next_index: Index) -> None:
        """Stop streaming; find out where the logs agree, starting before `next_index`."""
        self.next_index = next_index
        self.probe_last = next_index - 1
        self.probing = True
        self.paused = self.check_due = self.snapshot = False
        self.inflight.clear()
        self.inflight_bytes = 0

    def await_snapshot(self) -> None:
        """What it needs next is gone: send no entries until `probe()` says that it has been helped."""
        self.probe(self.next_index)
        self.snapshot = True

    def measure_round(self, last_index: Index, tick: int, ticks_max: int) -> None:
        """See whether the round of catching up is over, and whether it took longer than `ticks_max`.

        Each round is over when the peer has on disk what the log held at its beginning (Raft dissertation,
        section 4.2.1). `tick` is now, and the log ends at `last_index`.
        """
        took_ticks = tick - self.round_tick
        if self.match_index >= self.round_index:
            self.keeps_up = took_ticks <= ticks_max
            self.round_index = last_index
            self.round_tick = tick
        elif took_ticks > ticks_max:
            self.keeps_up = False

    def answered_heartbeat(self, tick: int, patience_ticks: int) -> None:
        """The peer lives. If an append stands out for longer than `patience_ticks`, it may be lost."""
        if tick - self.sent_tick < patience_ticks:
            return
        if self.snapshot:
            self.check_due = True
        elif self.probing:
            self.paused = False
        elif self.inflight:
            self.check_due = True
