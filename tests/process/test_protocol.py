"""The Redis protocol as clients meet it on a socket: versions, inline commands, mistakes, and connections."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.process.cluster import Cluster
from tests.process.eventually import eventually
from tests.process.ports import LOOPBACK

READ_TIMEOUT_S = 20.0


@contextmanager
def raw(cluster: Cluster, node_id: int = 1) -> Iterator[socket.socket]:
    """A bare connection to a node."""
    address = (LOOPBACK, cluster.nodes[node_id].client_port)
    with socket.create_connection(address, timeout=READ_TIMEOUT_S) as connection:
        yield connection


def exchange(connection: socket.socket, request: bytes, expected: bytes) -> None:
    """Send `request`; what comes back begins with `expected`, however it is cut into packets."""
    connection.sendall(request)
    received = b""
    while len(received) < len(expected) and (data := connection.recv(65536)):
        received += data
    assert received[: len(expected)] == expected


def read_to_end(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def test_hello_3_changes_the_form_of_replies(shared_cluster: Cluster) -> None:
    with raw(shared_cluster) as connection:
        exchange(connection, b"GET hello3\r\n", b"$-1\r\n")
        exchange(connection, b"HELLO 3\r\n", b"%7\r\n$6\r\nserver\r\n")
    with (
        shared_cluster.client(1, protocol=3) as three,
        shared_cluster.client(1, protocol=2) as two,
    ):
        assert three.execute_command("HELLO")[b"proto"] == 3
        assert two.execute_command("HELLO")[4:6] == [b"proto", 2]
        assert three.get("nothing") is two.get("nothing") is None
        with pytest.raises(redis.ResponseError, match="NOPROTO unsupported protocol version"):
            two.execute_command("HELLO", "4")


def test_inline_commands_are_taken(shared_cluster: Cluster) -> None:
    with raw(shared_cluster) as connection:
        exchange(connection, b"PING\r\n", b"+PONG\r\n")
        exchange(connection, b'SET inline "two words"\nGET inline\n', b"+OK\r\n$9\r\ntwo words\r\n")
        exchange(connection, b"\r\nPING hi\r\n", b"$2\r\nhi\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "text"),
    [
        (b"*-x\r\n", b"invalid multibulk length"),
        (b"*2147483648\r\n", b"invalid multibulk length"),
        (b"*1\r\n+PING\r\n", b"expected '$', got '+'"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$99999999999\r\n", b"invalid bulk length"),
        (b'SET a "unbalanced\r\n', b"unbalanced quotes in request"),
        (b"x" * 70_000, b"too big inline request"),
    ],
)
def test_malformed_input_is_told_and_closed(
    shared_cluster: Cluster, request_bytes: bytes, text: bytes
) -> None:
    with raw(shared_cluster) as connection:
        # What came before the mistake is answered, in order.
        connection.sendall(b"SET malformed yes\r\nPING\r\n" + request_bytes)
        assert read_to_end(connection) == b"+OK\r\n+PONG\r\n-ERR Protocol error: " + text + b"\r\n"
    with shared_cluster.client(1) as client:
        assert client.get("malformed") == b"yes"


def test_a_browser_is_cut_off(shared_cluster: Cluster) -> None:
    with raw(shared_cluster) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET browser was-here\r\n")
        assert read_to_end(connection) == b""
    with shared_cluster.client(1) as client:
        assert client.get("browser") is None


def test_mistakes_are_told_in_the_words_of_redis(shared_cluster: Cluster) -> None:
    with raw(shared_cluster) as connection:
        exchange(
            connection,
            b"NOSUCH one two\r\n",
            b"-ERR unknown command 'NOSUCH', with args beginning with: 'one' 'two' \r\n",
        )
        exchange(connection, b"GET\r\n", b"-ERR wrong number of arguments for 'get' command\r\n")
        exchange(
            connection,
            b"SET word abc\r\nINCR word\r\n",
            b"+OK\r\n-ERR value is not an integer or out of range\r\n",
        )
        exchange(connection, b"SELECT 16\r\n", b"-ERR DB index is out of range\r\n")
        # None of these cost the connection.
        exchange(connection, b"PING\r\n", b"+PONG\r\n")


def test_databases_are_apart(shared_cluster: Cluster) -> None:
    with shared_cluster.client(1) as zero, shared_cluster.client(2, db=5) as five:
        zero.set("database", "zero")
        five.set("database", "five")
        assert zero.get("database") == b"zero"
        assert five.get("database") == b"five"
        five.flushdb()
        assert five.dbsize() == 0
        assert zero.get("database") == b"zero"


def test_a_pipeline_may_change_databases(shared_cluster: Cluster) -> None:
    with raw(shared_cluster) as connection:
        exchange(
            connection,
            b"SELECT 7\r\nSET here 7\r\nSELECT 8\r\nGET here\r\nSET here 8\r\nSELECT 7\r\nGET here\r\n",
            b"+OK\r\n+OK\r\n+OK\r\n$-1\r\n+OK\r\n+OK\r\n$1\r\n7\r\n",
        )


def test_connections_are_listed_named_and_killed(shared_cluster: Cluster) -> None:
    with shared_cluster.client(1) as client, raw(shared_cluster) as other:
        exchange(other, b"CLIENT SETNAME victim\r\n", b"+OK\r\n")
        [victim] = [entry for entry in client.client_list() if entry["name"] == "victim"]
        assert victim["addr"] == ":".join(map(str, other.getsockname()))
        exchange(other, b"CLIENT ID\r\n", b":%d\r\n" % int(victim["id"]))
        assert client.client_kill_filter(_id=victim["id"]) == 1
        assert read_to_end(other) == b""
        eventually(
            lambda: all(entry["name"] != "victim" for entry in client.client_list()), what="it is forgotten"
        )


def test_quit_answers_what_came_before_and_closes(shared_cluster: Cluster) -> None:
    with raw(shared_cluster) as connection:
        connection.sendall(b"SET quit 1\r\nINCR quit\r\nQUIT\r\nINCR quit\r\n")
        assert read_to_end(connection) == b"+OK\r\n:2\r\n+OK\r\n"
    with shared_cluster.client(1) as client:
        assert client.get("quit") == b"2"


def test_a_client_that_only_sends_and_closes_is_still_heard(shared_cluster: Cluster) -> None:
    """`printf ... | nc`: half-closed at once, with the replies still to come."""
    with raw(shared_cluster) as connection:
        connection.sendall(b"SET half closed\r\nGET half\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b"+OK\r\n$6\r\nclosed\r\n"


def test_the_command_table_is_shown(shared_cluster: Cluster) -> None:
    with shared_cluster.client(2) as client:
        table = client.command()
        assert table["get"]["arity"] == 2
        assert client.command_count() == len(table)
        assert client.command_getkeys("MSET", "a", "1", "b", "2") == ["a", "b"]
        assert client.config_get("maxclients") == {"maxclients": "10000"}
