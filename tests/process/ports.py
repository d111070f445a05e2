"""Loopback TCP ports for servers that are killed and started again on the same port.

Ports come from below the kernel's ephemeral range. A port out of that range could, while its server is
down, be taken as the source port of somebody's outgoing connection; a dialler that retries could even
connect to itself.

A port that was handed out belongs to this process until it ends: it is not handed out again, here or in
any other test process of this user. A bind alone would not show that, since a server that was killed
on purpose leaves its port free for a while. What shows it is a lock on the port's byte of one file, which the
kernel gives back when its process ends, however it ends; servers started by a test do not inherit it.
"""

import fcntl
import functools
import itertools
import os
import socket
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

LOOPBACK: Final = "127.0.0.1"

_LOWEST: Final = 12_000
_COUNT: Final = 20_000  # Up to 32,000; Linux takes ephemeral ports from 32,768 on.


def free_ports(count: int) -> list[int]:
    """Return `count` ports on which nobody listens."""
    with _one_at_a_time:
        return list(itertools.islice(filter(_take, _candidates), count))


def free_base(offsets: Iterable[int]) -> int:
    """Return a port which is free together with all those `offsets` above it."""
    places = sorted({0, *offsets})
    with _one_at_a_time:
        return next(port for port in _candidates if all(_take(port + place) for place in places))


def _take(port: int) -> bool:
    """Make the port ours, unless somebody listens there or it was handed out, here or in another process."""
    if port in _taken:
        return False
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _taken.add(port)
    return _is_free(port)


@functools.cache
def _locks() -> BinaryIO:
    """Open the file whose bytes stand for ports. Closing it would give all of them back, so it stays open."""
    return (Path(tempfile.gettempdir()) / f"respraft-test-ports-{os.getuid()}").open("ab")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


# Processes that run side by side start at different places, and so seldom meet another's locks.
_candidates: Final = (_LOWEST + (os.getpid() * 61 + step) % _COUNT for step in itertools.count())
_taken: Final[set[int]] = set()
_one_at_a_time: Final = threading.Lock()
