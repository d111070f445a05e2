"""A node that joins goes on until it is committed that it is a member, whatever its log has said before."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from respraft.raft.configuration import Configuration, Member
from respraft.resp.errors import ReplyError
from respraft.server import joining
from respraft.server.joining import Joining, is_listed

US, THEM = Member(4, "127.0.0.1:2", "127.0.0.1:1", 44, voter=True), Member(1, "a:1", "a:2", 11, voter=True)
BEFORE, AFTER = Configuration(members=(THEM,)), Configuration(members=(THEM, US))


class JoiningNode:
    """As far as joining looks at it: it has the id that it had asked for, and what is in its log."""

    def __init__(self) -> None:
        self.applied: Configuration | None = None
        self.logged: Configuration | None = None
        self.removed = False
        self.node_id, self.cluster_id = US.id, "test"
        peer, client = (SimpleNamespace(advertise="", listen=each) for each in (US.peer, US.client))
        self.config = SimpleNamespace(
            node=SimpleNamespace(id=0), cluster=SimpleNamespace(id="", members=()), peer=peer, client=client
        )
        self.log_store = SimpleNamespace(
            identity=lambda: SimpleNamespace(replaces=2, incarnation=US.incarnation)
        )
        self.replica = self

    def status(self) -> Any:
        raft = SimpleNamespace(configuration=self.logged, last_index=3, term=2)
        return SimpleNamespace(
            raft=raft, applied_configuration=self.applied, removed=self.removed, refused="removed"
        )

    def contact(self, members: dict[int, str]) -> None:
        assert members == {THEM.id: THEM.peer}


def join(node: JoiningNode, monkeypatch: pytest.MonkeyPatch, added: list[Configuration | None]) -> int:
    """Join by a member that says yes each time; returns how often it was asked.

    What `added` has for each time is then in the node's log, and the last of it is committed there.
    """
    asked = 0

    async def ask(address: str, *words: str, timeout_s: float) -> Any:
        nonlocal asked
        if words == ("RAFT.STATUS",):
            member = [b"id", b"%d" % THEM.id, b"peer", THEM.peer.encode()]
            return [b"cluster_id", b"test", b"members", [member], b"next_node_id", b"5"]
        assert words[:5] == ("RAFT.NODE", "ADD", "4", US.peer, US.client)
        assert words[-2:] == ("REPLACES", "2")
        node.logged = added[asked]
        asked += 1
        if asked == len(added):
            node.applied = node.logged
        return b"OK"

    monkeypatch.setattr(joining, "ask", ask)
    monkeypatch.setattr(joining, "ADD_S", 0.05)
    asyncio.run(Joining(cast(Any, node), ["127.0.0.1:3"]).join())
    return asked


def test_a_member_says_yes_and_it_comes_about(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join(JoiningNode(), monkeypatch, [AFTER]) == 1


def test_who_was_added_in_its_own_log_only_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader died before a majority had it: nobody else knows of this node any more."""
    assert join(JoiningNode(), monkeypatch, [AFTER, BEFORE, AFTER]) == 3


def test_after_a_restart_it_asks_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    node = JoiningNode()
    node.logged, node.applied = AFTER, BEFORE
    assert not is_listed(cast(Any, node))
    assert join(node, monkeypatch, [AFTER]) == 1


def test_a_member_does_not_join() -> None:
    node = JoiningNode()
    node.logged = node.applied = AFTER
    with pytest.raises(ReplyError, match="Already cluster member"):
        Joining(cast(Any, node), ["127.0.0.1:3"])


def test_who_was_removed_meanwhile_does_not_go_on() -> None:
    node = JoiningNode()
    node.logged, node.applied, node.removed = BEFORE, BEFORE, True
    with pytest.raises(ReplyError, match="removed") as refused:
        Joining(cast(Any, node), ["127.0.0.1:3"])
    assert refused.value.code == "NOCLUSTER"
