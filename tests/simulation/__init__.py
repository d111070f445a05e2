"""Whole clusters in one thread under virtual time, with everything going wrong that can.

`python -m tests.simulation --seed 8123 --ticks 5000` repeats one run, `--seeds 1000` makes many.

What runs is production code: core, replica, driver, keyspace machine, the in-memory log and state. Imitated
are the event loop and the disk thread (`process.py`), the network (`network.py`), clients (`client.py`),
clocks and disks. One seed decides everything; the same seed gives the same trace, byte for byte, in any
process.

Reading order: `faults` (what a seed draws), `simulation` (the scheduler), `node`, `process`, `network`,
`client`, `checkers` (one property, one class), `linearizability`, `mutations` (broken variants that must be
found).

What operators ask for (`operator.py`), and flushes and transfers of whole states (`states.py`), go on at the
same time as everything else. A new fault is a field of `Faults` and a method of `Chaos`; what it may break
is a checker, and a mutation that the checker has to find.
"""
