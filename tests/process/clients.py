"""Clients that keep account: what they were told, and what they cannot know.

A client thread sends one command at a time. An error on a node that was killed under it is excused
(`Node.excuses`), and counted as one unknown; any other error is kept, and ends it.
"""

import threading
from collections.abc import Sequence

import redis

from tests.process.cluster import Cluster
from tests.process.eventually import eventually

_JOIN_TIMEOUT_S = 90.0


class Incrementer:
    """A client that runs INCR on one key without pause, on one node at a time."""

    def __init__(self, cluster: Cluster, key: str, home: int) -> None:
        """Begin at once, connected to node `home`."""
        self.replies: list[int] = []  # Of acknowledged INCRs, in order.
        self.unknown = 0  # INCRs whose outcome a SIGKILL hid.
        self.errors: list[str] = []  # What no client should see.
        self._cluster = cluster
        self._key = key
        self._home = home
        self._connected_to = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"incr-{key}-{home}", daemon=True)
        self._thread.start()

    def move(self, home: int) -> None:
        """Go to another node after the command under way."""
        self._home = home

    @property
    def settled(self) -> bool:
        """Whether it is where it was last told to go."""
        return self._connected_to == self._home

    def stop(self) -> None:
        """Finish the command under way and end."""
        self._stopping = True
        self._thread.join(_JOIN_TIMEOUT_S)
        assert not self._thread.is_alive(), f"{self._thread.name} got no reply for {_JOIN_TIMEOUT_S} s"

    def _run(self) -> None:
        while not self._stopping and not self.errors:
            home = self._home
            node = self._cluster.nodes[home]
            ends = node.ends
            try:
                self._increment_at(home)
            except (redis.RedisError, OSError) as error:
                if node.excuses(ends):
                    self._flee(home)
                else:
                    self.errors.append(f"node {home}: {type(error).__name__}: {error}")

    def _increment_at(self, home: int) -> None:
        """Run INCR until told to go elsewhere."""
        with self._cluster.client(home, single_connection_client=True) as client:
            self._connected_to = home
            while not self._stopping and self._home == home:
                self.replies.append(client.incr(self._key))

    def _flee(self, dead: int) -> None:
        self.unknown += 1
        if self._home == dead:
            self._home = next(node_id for node_id in self._cluster.living() if node_id != dead)


def progress(clients: Sequence[Incrementer], count: int) -> None:
    """Wait until each client got `count` more replies from where it was told to be."""
    eventually(lambda: all(client.settled or client.errors for client in clients), what="clients settled")
    goals = [len(client.replies) + count for client in clients]
    eventually(
        lambda: all(
            len(client.replies) >= goal or client.errors for client, goal in zip(clients, goals, strict=True)
        ),
        what=f"{count} more replies for each client",
    )
    assert_no_errors(clients)


def assert_no_errors(clients: Sequence[Incrementer]) -> None:
    """No client of a living node saw an error."""
    assert [error for client in clients for error in client.errors] == []


def assert_counted_once(clients: Sequence[Incrementer], final: int) -> None:
    """Each acknowledged INCR of these clients on one key counted once, in real-time order per client.

    `final` is the key's value in the end: the number of acknowledged ones, plus unknown ones that happened.
    """
    acknowledged = [reply for client in clients for reply in client.replies]
    unknown = sum(client.unknown for client in clients)
    assert len(acknowledged) <= final <= len(acknowledged) + unknown
    assert len(set(acknowledged)) == len(acknowledged), "two clients got the same count"
    for client in clients:
        assert client.replies == sorted(client.replies), "a counter ran backwards"
