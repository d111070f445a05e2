"""The requests of a connection: every byte of theirs is counted once, whatever groups they go in."""

from hypothesis import given
from hypothesis import strategies as st

from respraft.commands.table import KEYSPACE
from respraft.server.request_queue import GROUP_COMMANDS_START, QUEUED_BYTES_MAX, RequestQueue

SMALL = [b"SET", b"key", b"value"]
LARGE = [b"SET", b"key", bytes(QUEUED_BYTES_MAX)]
READ = [b"GET", b"key"]
LOCAL = [b"CLIENT", b"ID"]


@given(st.lists(st.sampled_from([SMALL, LARGE, READ, LOCAL]), min_size=1, max_size=80), st.integers(0, 100))
def test_groups_have_all_commands_in_order_and_all_bytes(commands: list[list[bytes]], headers: int) -> None:
    queue = RequestQueue(KEYSPACE, 1000)
    sent = sum(len(word) for command in commands for word in command) + headers * len(commands)
    queue.add(list(commands), sent)
    passed: list[list[bytes]] = []
    counted = start = 0
    while start < len(commands):
        writes, reads, end, local = queue.next_group(start, alone=False)
        counted += queue.take_bytes(start, max(end, start + 1))
        if end == start:
            assert local is not None
            passed.append(LOCAL)
            end += 1
        else:
            assert end - start <= GROUP_COMMANDS_START
            places = [number + place for place, (number, _) in enumerate(reads)]
            together = list(writes)
            for place, (_, read) in zip(places, reads, strict=True):
                together.insert(place, read)
            passed += together
        start = end
    queue.drop(start)
    assert passed == commands
    assert counted == sent
    assert queue.bytes == 0


def test_a_group_alone_is_one_command() -> None:
    queue = RequestQueue(KEYSPACE, 1000)
    queue.add([SMALL, READ], 40)
    assert queue.next_group(0, alone=True) == ([SMALL], [], 1, None)


def test_what_is_put_back_comes_first() -> None:
    queue = RequestQueue(KEYSPACE, 1000)
    queue.add([READ, SMALL], 40)
    queue.drop(1)
    queue.put_back([READ])
    assert queue.commands == [READ, SMALL]
