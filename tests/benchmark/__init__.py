"""The benchmark: respraft next to redis-server and etcd, interleaved on one machine.

`python -m tests.benchmark` prints one table. Reading order: `workload.py` (what is measured), `peers.py` (on
what), `load.py` (who sends), `__main__.py` (the runs), `table.py` (the result).
"""
