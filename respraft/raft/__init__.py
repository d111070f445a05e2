"""The consensus core: Raft without I/O.

A group of nodes keeps one log. Whatever a majority has agreed on stays, in the same place on every node,
however many nodes of the minority fail and whatever the network does to messages. Applying the log in
order to the same empty state then gives the same state everywhere; that is left to `replica/` and its
machine.

**Terms and leaders.** Time is divided into terms, numbered upwards. In each at most one node leads, since
a node votes once per term, writes its vote to disk first, and a leader needs a majority of votes
(`election.py`). Only the leader appends. Terms travel in every message: who sees a newer one follows into
it, who is addressed in an older one says so. A follower that hears nothing for a randomly drawn time asks
whether an election would succeed (pre-vote) before it starts one; and nobody votes against a leader that
he has himself heard within an election timeout. So a node that was cut off, or removed, does not disrupt
the others when it comes back.

**The log.** An append names the entry before its own, by index and term. A follower that has that entry
has the whole log before it, too (log matching); one that has not refuses, with a hint that takes the
leader to the right place in about one round trip per term it missed. Entries that *conflict* are cut off,
nothing else ever is (`log.py`, `follower.py`). Appends are pipelined: the leader assumes that they fit
and counts what is in flight, by number and bytes (`progress.py`).

**Commit.** An entry of the leader's own term that a majority has on disk is committed, and all before it;
older entries are never committed by counting (Raft paper, figure 8), so a new leader begins with a no-op.
A candidate whose log lacks what a voter has gets no vote from it, by term first and then by length: every
later leader therefore has everything that was committed (leader completeness).

**The disk.** Nothing that a node promises leaves before it is durable: votes, candidacies and accepted
appends travel with the write that they wait for (`ready.py`). All else goes on meanwhile. A leader sends
its appends while it writes them itself, and its own copy counts when the write is done, like everybody's.
One write is in flight at a time; whatever gathers behind it is the next. An entry that was replaced while
its write was under way is not counted when the write completes.

**Reads** take no entry. The leader notes its commit index, has a majority confirm that it still leads,
and from that index on a read may run on any node. One round of heartbeats serves all reads that wait
(`read_index.py`). A leader that hears no majority for an election timeout steps down by itself and serves
nothing.

Two short cuts, neither of them for free. **A lease** (`lease.py`, an opt-in) saves the round: voters promise
with each echo to elect nobody for a while, and the leader counts on a little less than that, which rests on
clocks that run about alike. **A follower that knows its leader's process to be gone** (`election.py`) need
not lose patience first; whoever still hears that leader, or is bound by a promise, goes on refusing votes.
**Handing over** (`transfer.py`) is the orderly way: the leader takes no proposals until its successor has
everything, and tells it to stand.

**Time** in the log is the leader's stamp, and a clock of its own: it never jumps or stands, whoever leads
(`clock.py`).

**Compaction.** The log is only needed behind what the machine's state holds durably, so its head is cut off
there; of the last entry that is gone, place, term and time are kept as the log's *base* (`log.py`). A
follower that needs entries from before the base gets a copy of the state instead, by ways of its own, and
heartbeats meanwhile (`progress.py`). The copy holds only what is committed, so whoever sent it, and whoever
leads by now, it may take the place of a log that ends before it; never of one that is as far or can get
there by itself, for what a node has acknowledged has to stay (`follower.install_snapshot`).

**Who counts** is said by the newest configuration in the log, committed or not (`configuration.py`). A
node without one, because its log is empty, votes and accepts entries but never campaigns: its
configuration comes to it as the first entry. It changes through joint configurations, one change at a time:
new members catch up as learners before they vote, and who leaves is told so (`membership.py`).

What to read, in this order: `message`, `ready`, `log`, `state`, `follower`, `leader`, `election`,
`membership`, `transfer`, `lease`, `node`.

Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended version,
2014), cited as "Raft paper"; Ongaro, "Consensus: Bridging Theory and Practice" (2014), cited as "Raft
dissertation".
"""
