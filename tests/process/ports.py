"""Loopback TCP ports for servers that are killed and started again on the same port.

Ports come from below the kernel's ephemeral range. A port out of that range could, while its server is
down, be taken as the source port of somebody's outgoing connection; a dialler that retries could even
connect to itself. Ports handed out once are not handed out again in this process.
"""

import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Final

LOOPBACK: Final = "127.0.0.1"

_LOWEST: Final = 12_000
_COUNT: Final = 20_000  # Up to 32,000; Linux takes ephemeral ports from 32,768 on.


def free_ports(count: int) -> list[int]:
    """Return `count` ports on which nobody listens."""
    return [port for port, _ in zip(_free(), range(count), strict=False)]


def free_base(offsets: Iterable[int]) -> int:
    """Return a port which is free together with all those `offsets` above it."""
    above = list(offsets)
    return next(port for port in _free() if all(_is_free(port + offset) for offset in above))


def _free() -> Iterator[int]:
    return (port for port in _candidates if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


# Processes that run side by side start at different places.
_candidates: Final = (_LOWEST + (os.getpid() * 61 + step) % _COUNT for step in itertools.count())
