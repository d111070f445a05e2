"""Tests of whole clusters: real processes on loopback, real Redis clients, real faults.

`cluster.py` starts, hurts and ends the processes; each test module holds one kind of promise.
"""
