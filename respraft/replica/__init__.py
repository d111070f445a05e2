"""One replica: the Raft core joined to a machine, and the path of every command between them.

    clients ──> origin ──> (leader's) admission ──> raft log ──> apply ──> answers
                  │                                                ▲
                  └────────── barrier (reads alone) ───────────────┘

* `batch`      what one turn's commands become, and the log payload that carries them
* `session`    which batches apply: exactly once, whatever was sent again
* `origin`     this node as the source of batches: numbering, handing over, sending again, giving up
* `admission`  the leader's side of that: only the next sequence of a session is appended
* `forwarding` the way of batches between the two, within one node or over a link
* `barrier`    reads without a log entry: proof of leadership first, then the local state (`reading`)
* `snapshots`  flushing the state, cutting the log (`compaction`), going over to another node's state
* `formation`  how a configured set of empty nodes becomes one cluster, once
* `replica`    the order of all this within a turn

Nothing here does I/O, reads a clock or draws randomness: the driver (`server/`) and the simulator bring
all three in, and carry out what `Replica.take_output` and `finish_turn` say.
"""
