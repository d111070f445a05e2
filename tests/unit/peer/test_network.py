"""Whole networks on loopback, with real sockets on the event loop of production."""

import asyncio
import random
import struct

import pytest

from respraft.peer.codec import MESSAGE, encode_frame
from respraft.peer.handshake import Dialing
from respraft.peer.network import STRANGERS_MAX
from tests.process.ports import free_ports
from tests.unit.peer.support import (
    PATIENCE_S,
    Blob,
    Nodes,
    codec,
    heartbeat,
    introduction,
    peer_config,
    run_with_nodes,
)

SECRET = b"a long random secret"


class Stranger:
    """A raw connection to a node's peer port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def knock(cls, port: int) -> "Stranger":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def until_closed(self) -> bytes:
        """Return everything that comes until the node closes the connection."""
        received = b""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while chunk := await self.reader.read(1000):
                    received += chunk
        except ConnectionError:
            pass
        finally:
            self.writer.close()
        return received


async def shaken(port: int, *, node_id: int = 1, to: int = 2) -> Stranger:
    """Knock and go through the handshake as node `node_id`; what comes then is up to the test."""
    stranger = await Stranger.knock(port)
    handshake = Dialing(own=introduction(node_id), to=to, check=lambda _: None, nonce=bytes(32), secret=None)
    stranger.writer.write(handshake.start())
    while handshake.peer is None:
        stranger.writer.write(handshake.feed(await stranger.reader.read(1000)))
    return stranger


def test_messages_reach_every_node_in_order() -> None:
    async def whole(nodes: Nodes) -> None:
        for node_id in (1, 2, 3):
            await nodes.start(node_id)
        await nodes.connect_all()
        for number in range(1000):
            for sender, network in nodes.networks.items():
                for to in nodes.networks:
                    if to != sender:
                        assert network.send(to, heartbeat(sender, number))
                network.flush()
        for node_id, owner in nodes.owners.items():
            await owner.until_messages(2000)
            for sender in {1, 2, 3} - {node_id}:
                numbers = [message for source, _, message in owner.messages if source == sender]
                assert numbers == [heartbeat(sender, number) for number in range(1000)]
            assert {incarnation for _, incarnation, _ in owner.messages} == {
                1000 + sender for sender in {1, 2, 3} - {node_id}
            }

    run_with_nodes(whole)


def test_a_long_message_arrives_and_does_not_delay_a_small_one() -> None:
    async def whole(nodes: Nodes) -> None:
        one, _ = await nodes.start(1)
        _, owner = await nodes.start(2)
        await nodes.connect_all()
        blob = Blob(sender=1, payload=random.Random(1).randbytes(10 << 20))
        assert one.send(2, blob)
        assert one.send(2, heartbeat(1))
        one.flush()
        await owner.until_messages(2)
        assert [message for _, _, message in owner.messages] == [heartbeat(1), blob]

    run_with_nodes(whole)


def test_status_tells_what_happened() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        _, second = await nodes.start(2)
        assert not one.send(2, heartbeat(1))  # Not known yet, so not counted either.
        one.set_peers({1: "127.0.0.1:1", 2: f"127.0.0.1:{nodes.networks[2].port}"})
        assert not one.send(2, heartbeat(1))
        await first.until_event("up", 2)
        one.send(2, heartbeat(1))
        one.flush()
        await second.until_messages(1)

        assert list(one.status()) == [2]
        here = one.status()[2]
        assert (here.connected, here.accepted, here.incarnation) == (True, False, 1002)
        assert (here.dial_attempts, here.dial_errors, here.dial_oks) == (1, 0, 1)
        assert (here.messages_sent, here.messages_dropped, here.queue_bytes) == (1, 1, 0)
        assert 0 <= here.last_connect_age_s < PATIENCE_S

        there = nodes.networks[2].status()[1]
        assert (there.connected, there.accepted, there.incarnation, there.address) == (False, True, 1001, "")
        assert (there.messages_received, there.last_connect_age_s) == (1, -1.0)
        assert there.bytes_received == here.bytes_sent

    run_with_nodes(whole)


def test_events_tell_incarnation_start_counter_and_emptiness() -> None:
    async def whole(nodes: Nodes) -> None:
        _, first = await nodes.start(1)
        _, second = await nodes.start(2, incarnation=2**64 - 1)
        second.empty = True
        await nodes.connect_all()
        assert first.events == [("up", 2, 2**64 - 1, 1, True)]
        assert [peer.incarnation for peer in first.checked] == [2**64 - 1] * 2  # Asked on both links.

    run_with_nodes(whole)


def test_a_node_that_stops_is_missed_at_once_and_found_again() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        two, _ = await nodes.start(2)
        port = two.port
        await nodes.connect_all()
        assert not one.ended_by_peer(2)

        await nodes.stop(2)
        await first.until_event("dial refused", 2)
        assert ("down", 2, True) in first.events
        await first.until(lambda: one.ended_by_peer(2))
        assert not one.send(2, heartbeat(1))
        assert one.status()[2].dial_errors >= 1

        first.events.clear()
        two, second = await nodes.start(2, incarnation=77, listen=f"127.0.0.1:{port}")
        two.set_peers(nodes.addresses())
        await first.until_event("up", 2, 77)
        await second.until_event("up", 1)
        assert not one.ended_by_peer(2)
        assert one.send(2, heartbeat(1))
        one.flush()
        await second.until_messages(1)

    run_with_nodes(whole)


def test_a_peer_that_dials_us_is_dialled_without_waiting_for_the_pause_to_end() -> None:
    async def whole(nodes: Nodes) -> None:
        port = free_ports(1)[0]
        one, first = await nodes.start(1, config=peer_config(reconnect_ms_max=60_000))
        one.set_peers({2: f"127.0.0.1:{port}"})
        callers = []
        for attempts in range(1, 12):  # The pause has grown to ten seconds at least by then.
            await first.until(lambda: one.status()[2].dial_errors >= attempts)  # noqa: B023
            callers.append(await shaken(one.port, node_id=2, to=1))
        before = one.status()[2].dial_attempts
        two, _ = await nodes.start(2, listen=f"127.0.0.1:{port}")
        two.set_peers(nodes.addresses())
        await first.until_event("up", 2)
        # The last caller's attempt may have been still to come.
        assert one.status()[2].dial_attempts <= before + 2
        for caller in callers:
            await caller.until_closed()

    run_with_nodes(whole)


def test_nobody_listens() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        one.set_peers({2: f"127.0.0.1:{free_ports(1)[0]}", 3: f"localhost:{free_ports(1)[0]}"})
        await first.until_event("dial refused", 2)
        await first.until_event("dial refused", 3)
        await first.until(lambda: one.status()[2].dial_attempts >= 3)
        assert not one.ended_by_peer(2), "there never was a link"

    run_with_nodes(whole)


def test_a_host_name_that_leads_nowhere_is_a_failed_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        one.set_peers({2: "no-such-host.invalid:7101", 3: f"127.0.0.1:{free_ports(1)[0]}"})
        async with asyncio.timeout(PATIENCE_S):
            while not one.status()[2].dial_errors:
                first.events.clear()
                await first.until_event("dial refused", 3)  # Something to wait for: it comes again and again.
        assert ("dial refused", 2) not in first.kinds()
        assert "node 2 at no-such-host.invalid:7101 cannot be reached" in caplog.text

    run_with_nodes(whole)


def test_a_refusal_is_told_to_the_refused_and_logged_on_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        two, second = await nodes.start(2)
        second.refusals[1] = "its data directory is another one"
        one.set_peers(nodes.addresses())
        two.set_peers(nodes.addresses())
        # Once by the acceptor of our link, and once by the dialer of theirs, which checks our welcome.
        await first.until(lambda: first.events.count(("refused", 2, second.refusals[1], False)) >= 4)
        assert "up" not in {event[0] for event in first.events + second.events}
        assert not one.send(2, heartbeat(1)) and not two.send(1, heartbeat(2))
        assert one.status()[2].refusal == second.refusals[1]
        refused = [text for text in caplog.messages if second.refusals[1] in text]
        assert (
            len([text for text in refused if text.startswith("node 2 at") and "refuses this node" in text])
            == 2
        )
        assert len([text for text in refused if text.startswith("a node at 127.0.0.1 is refused")]) == 1
        assert len([text for text in refused if text.startswith("node 1 at") and "is refused" in text]) == 1

        # The operator has put it right.
        del second.refusals[1]
        await first.until_event("up", 2)
        await second.until_event("up", 1)
        assert one.status()[2].refusal == ""

    run_with_nodes(whole)


@pytest.mark.parametrize(
    ("cluster_id", "secret", "text"),
    [
        ("other", SECRET, "cluster 'other'"),
        ("test", b"guess", "cluster secret"),
        ("test", None, "cluster secret"),
    ],
)
def test_nodes_that_do_not_belong_together_stay_apart(
    cluster_id: str, secret: bytes | None, text: str
) -> None:
    async def whole(nodes: Nodes) -> None:
        await nodes.start(1, secret=SECRET)
        await nodes.start(2, secret=SECRET)
        await nodes.connect_all()
        stray, owner = await nodes.start(3, secret=secret, cluster_id=cluster_id)
        stray.set_peers(nodes.addresses())
        await owner.until(
            lambda: {(kind, peer) for kind, peer in owner.kinds()} >= {("refused", 1), ("refused", 2)}
        )
        assert all(text in event[2] for event in owner.events)
        assert 3 not in nodes.networks[1].status()

    run_with_nodes(whole)


def test_a_node_under_the_address_of_another_is_refused() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        two, _ = await nodes.start(2)
        one.set_peers({3: f"127.0.0.1:{two.port}", 4: f"127.0.0.1:{one.port}"})
        await first.until_event("refused", 3, "node 2 answers where node 3 should be: check cluster.members")
        await first.until_event("refused", 4, "node 1 answers where node 4 should be: check cluster.members")

    run_with_nodes(whole)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        random.Random(1).randbytes(100_000),
        b"respraft" + b"\0" * 100,
        struct.pack("<8sI", b"respraft", 1) + b"\xff" * 1000,
        struct.pack("<8sI", b"respraft", 1) + encode_frame(MESSAGE, codec().encode(heartbeat(1))),
    ],
)
def test_a_stranger_loses_its_connection_and_nobody_else_does(garbage: bytes) -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        two, second = await nodes.start(2)
        await nodes.connect_all()
        stranger = await Stranger.knock(two.port)
        stranger.writer.write(garbage)
        await stranger.until_closed()
        assert one.send(2, heartbeat(1)) and two.send(1, heartbeat(2))
        one.flush()
        two.flush()
        await first.until_messages(1)
        await second.until_messages(1)
        assert first.kinds() == [("up", 2)] and second.kinds() == [("up", 1)]

    run_with_nodes(whole)


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def whole(nodes: Nodes) -> None:
        one, _ = await nodes.start(1, config=peer_config(handshake_timeout_ms=20))
        stranger = await Stranger.knock(one.port)
        assert await stranger.until_closed() == b""

    run_with_nodes(whole)


def test_a_peer_that_says_nothing_is_dialled_again() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1, config=peer_config(handshake_timeout_ms=20, reconnect_ms_max=10))
        accepted = asyncio.Queue[asyncio.StreamWriter]()
        silent = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
        one.set_peers({2: f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"})
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                (await accepted.get()).close()
        assert one.status()[2].dial_errors >= 2
        assert first.events == []
        silent.close()

    run_with_nodes(whole)


def test_strangers_cannot_pile_up() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1, config=peer_config(handshake_timeout_ms=60_000))
        strangers = [await Stranger.knock(one.port) for _ in range(STRANGERS_MAX + 5)]
        assert await asyncio.gather(*(stranger.until_closed() for stranger in strangers[:5])) == [b""] * 5
        two, second = await nodes.start(2)
        two.set_peers(nodes.addresses())
        await second.until_event("up", 1)
        for stranger in strangers:
            stranger.writer.close()
        assert first.events == []

    run_with_nodes(whole)


def test_a_newer_link_replaces_the_older_one() -> None:
    async def whole(nodes: Nodes) -> None:
        two, second = await nodes.start(2)
        older = await shaken(two.port)
        older.writer.write(encode_frame(MESSAGE, codec().encode(heartbeat(1, 1))))
        await second.until_messages(1)
        newer = await shaken(two.port)
        assert await older.until_closed() == b""
        newer.writer.write(encode_frame(MESSAGE, codec().encode(heartbeat(1, 2))))
        await second.until_messages(2)
        assert [message for _, _, message in second.messages] == [heartbeat(1, 1), heartbeat(1, 2)]
        assert two.status()[1].accepted
        newer.writer.close()
        await newer.writer.wait_closed()

    run_with_nodes(whole)


def test_a_message_in_another_name_ends_the_link(caplog: pytest.LogCaptureFixture) -> None:
    async def whole(nodes: Nodes) -> None:
        two, second = await nodes.start(2)
        liar = await shaken(two.port)
        liar.writer.write(encode_frame(MESSAGE, codec().encode(heartbeat(3))))
        await liar.until_closed()
        assert second.messages == []
        assert "a message of node 3 on a link of node 1" in caplog.text

    caplog.set_level("DEBUG", "respraft.peer")
    run_with_nodes(whole)


def test_peers_come_go_and_move() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        two, _ = await nodes.start(2)
        await nodes.start(3)
        await nodes.connect_all()

        one.set_peers({2: f"127.0.0.1:{two.port}"})
        await first.until_event("down", 3, False)
        assert not one.send(3, heartbeat(1))
        assert not one.status()[3].connected and one.status()[3].address == ""
        assert ("down", 2) not in first.kinds()

        first.events.clear()
        one.set_peers({2: f"localhost:{two.port}", 3: f"127.0.0.1:{nodes.networks[3].port}"})
        await first.until_event("up", 2)
        await first.until_event("up", 3)
        assert first.events.index(("down", 2, False)) < first.kinds().index(("up", 2))

    run_with_nodes(whole)


def test_a_link_is_begun_anew_to_say_the_address_that_its_dialer_has_got() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        two, second = await nodes.start(2)
        await nodes.connect_all()
        assert {each.address for each in second.checked} == {""}

        first.address = "here:1"
        first.events.clear()
        one.set_peers(nodes.addresses())
        await first.until_event("down", 2, False)
        await first.until_event("up", 2)
        assert second.checked[-1].address == "here:1"
        # It was said; more of the same is no reason to begin anew, and the other side has nothing to say.
        attempts = one.status()[2].dial_attempts
        one.set_peers(nodes.addresses())
        two.set_peers(nodes.addresses())
        assert one.send(2, heartbeat(1)) and two.send(1, heartbeat(2))
        one.flush()
        two.flush()
        await first.until_messages(1)
        await second.until_messages(1)
        assert one.status()[2].dial_attempts == attempts

    run_with_nodes(whole)


def test_a_link_in_its_handshake_is_begun_anew_as_well() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        _, second = await nodes.start(2)
        addresses = nodes.addresses()
        one.set_peers(addresses)
        await second.until(lambda: bool(second.checked))  # The welcome is on its way.
        first.address = "here:1"
        one.set_peers(addresses)
        await second.until(lambda: second.checked[-1].address == "here:1")

    run_with_nodes(whole)


def test_news_about_who_may_take_part_reaches_links_that_stand() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        two, second = await nodes.start(2)
        await nodes.connect_all()
        first.refusals[2] = "you were removed"
        one.set_peers({})
        await second.until_event("refused", 1, "you were removed")
        await second.until_event("down", 1)
        await first.until_event("down", 2)
        assert not two.send(1, heartbeat(2))

    run_with_nodes(whole)


def test_what_was_sent_before_closing_arrives() -> None:
    async def whole(nodes: Nodes) -> None:
        one, first = await nodes.start(1)
        _, second = await nodes.start(2)
        await nodes.connect_all()
        events = list(first.events)
        assert one.send(2, heartbeat(1))
        await nodes.stop(1)
        await second.until_messages(1)
        await second.until_event("down", 1, True)
        assert first.events == events, "the owner hears no more"

    run_with_nodes(whole)


def test_closing_in_the_middle_of_dialling_leaves_nothing_behind() -> None:
    async def whole(nodes: Nodes) -> None:
        one, _ = await nodes.start(1)
        silent = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        one.set_peers(
            {
                2: f"127.0.0.1:{silent.sockets[0].getsockname()[1]}",
                3: "192.0.2.1:7101",  # Reserved for documentation: nobody answers.
                4: "no-such-host.invalid:7101",
                5: f"127.0.0.1:{free_ports(1)[0]}",
            }
        )
        await nodes.stop(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        silent.close()

    run_with_nodes(whole)


def test_an_address_in_use_is_an_error_of_start() -> None:
    async def whole(nodes: Nodes) -> None:
        one, _ = await nodes.start(1)
        with pytest.raises(OSError, match=r"address already in use"):
            await nodes.start(2, listen=f"127.0.0.1:{one.port}")

    run_with_nodes(whole)
