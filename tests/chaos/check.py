"""What must hold in the end: for the clients' histories, and for nodes that nothing hurts any more."""

import re
from collections import defaultdict
from typing import Final

import hiredis

from tests.chaos.clients import Connection, Record
from tests.process.cluster import Node
from tests.simulation.linearizability import Operation, Verdict, check, shortest_violation

PAGE: Final = b"1000"
UGLY: Final = re.compile(
    r"Traceback \(most recent|AssertionError|assert |never retrieved|was never awaited|Fatal Python|panicked"
)
"""What no log of a node may hold."""
VIOLATION_SHOWN: Final = 30


def linearizable(record: Record, last: list[Operation]) -> tuple[list[str], int]:
    """Judge every key; `last` are reads of all of them at the end.

    Returns:
        What is wrong, and how many are undecided.
    """
    by_key: dict[bytes, list[Operation]] = defaultdict(list)
    for operation in [*record.operations, *last]:
        by_key[operation.key].append(operation)
    wrong, undecided = [], 0
    for key, operations in sorted(by_key.items()):
        verdict = check(operations)
        undecided += verdict is Verdict.UNDECIDED
        if verdict is Verdict.VIOLATED:
            history = "\n    ".join(map(_line, shortest_violation(operations)[-VIOLATION_SHOWN:]))
            wrong.append(f"{key.decode()}: no order explains these replies\n    {history}")
    return wrong, undecided


def counted_once(record: Record, final: int) -> list[str]:
    """The counter that lasts: every acknowledged INCR counts once, and no other more than once."""
    wrong = []
    replies = [reply for each in record.total_replies.values() for reply in each]
    if not len(replies) <= final <= len(replies) + record.total_unknown:
        wrong.append(f"counter {final}: {len(replies)} acknowledged, {record.total_unknown} unknown")
    if len(set(replies)) != len(replies):
        wrong.append("two clients got the same count")
    if any(each != sorted(each) for each in record.total_replies.values()):
        wrong.append("a client saw the counter run backwards")
    return wrong


def pairs_agree(record: Record) -> list[str]:
    """MSET is seen as a whole or not at all."""
    return [f"MGET of a pair that only MSET writes: {pair}" for pair in record.pairs if pair[0] != pair[1]][
        :3
    ]


def contents(node: Node) -> dict[bytes, object]:
    """Return all keys of a node's own state, with their values."""
    connection = Connection(node.client_port)
    try:
        found: dict[bytes, object] = {}
        cursor: object = b"0"
        connection.send([(b"READONLY",)])
        _good(connection)
        while True:
            assert isinstance(cursor, bytes)
            connection.send([(b"SCAN", cursor, b"COUNT", PAGE)])
            page = _good(connection)
            assert isinstance(page, list)
            cursor, keys = page
            if keys:
                connection.send([(b"MGET", *keys)])
                values = _good(connection)
                assert isinstance(values, list)
                found.update(zip(keys, values, strict=True))
            if cursor == b"0":
                return {key: value for key, value in found.items() if value is not None}
    finally:
        connection.close()


def ugly_lines(text: str) -> list[str]:
    """Return what stands in a log that should not, with what is around it."""
    lines = text.splitlines()
    places = [place for place, line in enumerate(lines) if UGLY.search(line)]
    return ["\n".join(lines[max(0, place - 2) : place + 14]) for place in places[:2]]


def _good(connection: Connection) -> object:
    reply = connection.receive()
    if isinstance(reply, hiredis.ReplyError):
        raise AssertionError(str(reply))
    return reply


def _line(operation: Operation) -> str:
    command = b" ".join(operation.command).decode()
    until = "..." if operation.returned is None else f"{operation.returned}"
    return f"{operation.invoked}-{until} {command} -> {operation.reply!r}"
