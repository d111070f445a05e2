"""A node's disk: the Raft log, the keyspace, and the directory they lie in.

Read `interface.py` and `state_interface.py` first. `log.py` and `state.py` keep those promises with RocksDB,
`log_memory.py` and `state_memory.py` in memory and with faults, for tests and the simulator.
"""
