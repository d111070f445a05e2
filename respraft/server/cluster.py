"""What RAFT.CLUSTER and RAFT.NODE do: joins this node's clients with `joining.py` and the replica's changes.

Replies come when the change is there: each method returns a `Deferred`, which is resolved in any case.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from respraft.node.node import Node
from respraft.peer.look import NotThere
from respraft.raft.message import NOBODY, NodeId
from respraft.replica.admin import ChangeDone
from respraft.replica.batch import Answer, Refusal
from respraft.replica.changes import Action, MoveMember
from respraft.resp.errors import ReplyError, no_leader
from respraft.resp.replies import OK, Reply, SimpleString
from respraft.server.ask import CannotConnect, NoAnswer, ask
from respraft.server.clients import refusal_error
from respraft.server.joining import Joining, found
from respraft.server.local.view import Deferred

CHANGE_TIMEOUT_MS: Final = 15_000.0
"""By then a change is complete, or its outcome is said to be unknown. It takes a few round trips, and
as long as new nodes are tried to be reached."""

INVITATION_S: Final = 60.0
"""How long a node that was asked to join may take. It goes on by itself where catching up takes longer."""

LOOK_S: Final = 2.0
"""How long a node at a new address may take to say who it is."""

_log: Final = logging.getLogger("respraft.server")


class ChangeClient:
    """Waits for one change of the membership. A `NodeClient`."""

    def __init__(self, then: Callable[[ChangeDone], Reply]) -> None:
        """`then` makes the reply of a change that is done."""
        self.reply = Deferred()
        self._then = then

    def answer(self, answer: Answer) -> None:
        """Take the outcome."""
        if answer.refusal is not None:
            self.reply.resolve(_refused(answer.refusal))
            return
        done = answer.replies[0]
        assert isinstance(done, ChangeDone)
        self.reply.resolve(_error(done) if done.code else self._then(done))

    def abort(self) -> None:
        """The reply cannot be made; the client must not wait for it."""
        self.reply.resolve(ReplyError("ERR", "internal error"))


class Cluster:
    """One node's. A `ClusterView` of the LOCAL commands."""

    def __init__(self, node: Node[Any]) -> None:
        """Act on `node`, on the running loop."""
        self._node = node
        self._tasks: set[asyncio.Task[None]] = set()
        self._joining = False

    def found(self, cluster_id: str) -> Reply:
        """Found a cluster of this node alone."""
        if self._joining:
            raise ReplyError("ERR", "this node is joining a cluster")
        return SimpleString(f"OK {found(self._node, cluster_id)}")

    def join(self, addresses: list[str], node_id: NodeId, *, voter: bool) -> Deferred:
        """Join the cluster that one of `addresses` belongs to."""
        if self._joining:
            raise ReplyError("ERR", "this node is joining a cluster already")
        joining = Joining(self._node, addresses, node_id=node_id, voter=voter)
        self._joining = True

        async def join() -> Reply:
            try:
                await joining.join()
            finally:
                self._joining = False
            return OK

        return self._later(join())

    def change(self, action: Action, then: Callable[[ChangeDone], Reply]) -> Deferred:
        """Have the membership changed."""
        if isinstance(action, MoveMember):
            return self._later(self._move(action, then))
        return self._change(action, then)

    def invite(self, address: str, node_id: NodeId, *, voter: bool) -> Deferred:
        """Have the node whose clients are served at `address` join this cluster."""
        return self._later(self._invite(address, node_id, voter=voter))

    async def close(self) -> None:
        """Give up on what is under way."""
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _change(self, action: Action, then: Callable[[ChangeDone], Reply]) -> Deferred:
        client = ChangeClient(then)
        refusal = self._node.change_members(action, client, CHANGE_TIMEOUT_MS)
        if refusal is not None:
            client.reply.resolve(_refused(refusal))
        return client.reply

    async def _move(self, action: MoveMember, then: Callable[[ChangeDone], Reply]) -> Reply:
        """A wrong address would cut the member off from everybody, so that very node must be there."""
        configuration = self._node.replica.status().raft.configuration
        if configuration is not None and configuration.member(action.id) is not None:
            try:
                await self._node.network.look(action.id, action.peer)
                if action.client:
                    await self._look_for_clients(action.id, action.client)
            except NotThere as error:
                raise ReplyError("ERR", f"invalid node address: {error}; nothing was changed") from error
        done = asyncio.get_running_loop().create_future()
        self._change(action, then).when_resolved(done.set_result)
        reply: Reply = await done
        return reply

    async def _look_for_clients(self, node_id: NodeId, address: str) -> None:
        """Raise NotThere unless that node of this cluster serves clients at `address`."""
        try:
            reply = await ask(address, "RAFT.STATUS", timeout_s=LOOK_S)
            status = dict(zip(reply[::2], reply[1::2], strict=True))
            there = (int(status[b"node_id"]), status[b"cluster_id"].decode())
        except CannotConnect as error:
            raise NotThere(f"nobody is there: {error}") from error
        except NoAnswer as error:
            raise NotThere(str(error)) from error
        except (ReplyError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise NotThere(f"{address}: no respraft node answers there") from error
        if there != (node_id, self._node.cluster_id):
            raise NotThere(f"node {there[0]} of cluster {there[1]!r} serves clients at {address}")

    async def _invite(self, address: str, node_id: NodeId, *, voter: bool) -> Reply:
        configuration = self._node.replica.status().raft.configuration
        own = configuration.member(self._node.node_id) if configuration is not None else None
        if own is None:
            raise ReplyError("NOCLUSTER", "No Raft Cluster")
        words = ["RAFT.CLUSTER", "JOIN", own.client]
        words += ["ID", str(node_id)] if node_id != NOBODY else []
        words += [] if voter else ["LEARNER"]
        try:
            await ask(address, *words, timeout_s=INVITATION_S)
            status = await ask(address, "RAFT.STATUS", timeout_s=INVITATION_S)
            return [int(status[status.index(b"node_id") + 1]), self._node.cluster_id.encode()]
        except CannotConnect as error:
            raise ReplyError("ERR", f"invalid node address: nobody is there: {error}") from error
        except (NoAnswer, ValueError, AttributeError, TypeError) as error:
            raise ReplyError("TIMEOUT", f"outcome unknown, see RAFT.NODE LIST: {error}") from error
        except ReplyError as error:
            raise ReplyError(error.code, f"{error.text} (said the node at {address})") from error

    def _later(self, work: Coroutine[Any, Any, Reply]) -> Deferred:
        reply = Deferred()

        async def run() -> None:
            try:
                reply.resolve(await work)
            except ReplyError as error:
                reply.resolve(error)
            except asyncio.CancelledError:
                reply.resolve(ReplyError("ERR", "this node is stopping"))
                raise
            except Exception:
                _log.exception("a change of the membership could not be asked for")
                reply.resolve(ReplyError("ERR", "internal error; see this node's log"))

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return reply


def _refused(refusal: Refusal) -> ReplyError:
    if refusal is Refusal.NO_LEADER:
        return no_leader()
    if refusal is Refusal.OUTCOME_UNKNOWN:
        return ReplyError("TIMEOUT", "outcome unknown: the change may still happen; see RAFT.NODE LIST")
    return refusal_error(refusal, no_cluster="No Raft Cluster")


def _error(done: ChangeDone) -> ReplyError:
    return ReplyError("INPROG" if done.code == "ChangeInProgress" else "ERR", done.text)
