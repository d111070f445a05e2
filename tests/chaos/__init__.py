"""Real clusters under attack: processes, disks, clocks, network and members, with clients that keep account.

What the simulator proves of the code, this tries on what an operator runs: compiled modules, sockets,
signals, RocksDB on a disk. `python -m tests.chaos`, or `make chaos`; it is no part of the test suite, since
what happens depends on the machine as well.
"""
