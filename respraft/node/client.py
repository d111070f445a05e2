"""Whoever waits for an answer of a node: what it must have, and the simplest one."""

import asyncio
from typing import Protocol

from respraft.replica.batch import Answer


class NodeClient(Protocol):
    """Whoever gives commands to a node. It has one group in flight at a time."""

    def answer(self, answer: Answer) -> None:
        """Take the replies of the group in flight, or its refusal."""
        ...

    def abort(self) -> None:
        """`answer` raised: this client is in no state to go on. The node is."""
        ...


class Done(NodeClient):
    """Waits for an answer of which only that it came is of interest."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def answer(self, _answer: Answer) -> None:
        """It is over, well or not."""
        self.event.set()

    def abort(self) -> None:
        """Never called: the answer cannot fail."""
