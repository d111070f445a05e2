"""The benchmark: respraft next to redis-server, etcd and PySyncObj, interleaved on one machine.

`python -m tests.benchmark` prints one table. Reading order: `workload.py` (what is measured), `peers.py` and
`pysyncobj.py` (on what), `load.py` (who sends), `__main__.py` (the runs), `table.py`, `picture.py` and
`compare.py` (the result).

Beside it, each a program of its own about respraft alone: `scale` (nodes, connections, keys, values), `size`
(memory, disk, restart), `tails` (p99 during compaction, transfer and rejoin), `soak` (memory over time) and
`failover` (how long clients wait when a leader goes).
"""
