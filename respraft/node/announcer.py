"""The log lines about leadership and members: what an operator asks first.

One line for each change, none while nothing changes, and a reminder each minute of what keeps the node from
serving. It only looks at snapshots, so it may miss an election that came and went between two looks.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from respraft.config import Config
from respraft.raft.configuration import Configuration
from respraft.raft.message import NOBODY, NodeId, Term
from respraft.raft.ready import Role
from respraft.replica.status import ReplicaStatus

REMIND_S: Final = 60.0
"""How often a lasting trouble is named again."""

_log: Final = logging.getLogger("respraft.raft")


class Announcer:
    """Compares a node's present status with what it said last."""

    def __init__(self, config: Config, *, clock: Callable[[], float]) -> None:
        """Begin with nothing said.

        Args:
            config: Names the members that are waited for, and how long an election may take.
            clock: Monotonic, in seconds.
        """
        self._config = config
        self._clock = clock
        self._leader: tuple[NodeId, Term] = (NOBODY, 0)
        self._led_at = clock()  # When a leader was last known, or the start.
        self._trouble_said_at: float | None = None
        self._members: Configuration | None = None  # As last seen.

    def look(self, status: ReplicaStatus, connected: Sequence[NodeId]) -> None:
        """Say what has changed.

        Args:
            status: The node's, as of now.
            connected: The peers that it can send to.
        """
        now = self._clock()
        raft = status.raft
        self._look_at_members(status.applied_configuration)
        if raft.leader != NOBODY:
            self._led_at = now
            self._trouble_said_at = None
            if (raft.leader, raft.term) != self._leader:
                self._leader = (raft.leader, raft.term)
                who = "this node leads" if raft.role is Role.LEADER else f"node {raft.leader} leads"
                _log.info("%s in term %d", who, raft.term)
            return
        self._leader = (NOBODY, raft.term)
        patience_s = 2 * self._config.raft.election_timeout_ms / 1000
        said_at = self._trouble_said_at
        if now - self._led_at >= patience_s and (said_at is None or now - said_at >= REMIND_S):
            self._trouble_said_at = now
            _log.warning("%s", self._trouble(status, connected, now))

    def _look_at_members(self, configuration: Configuration | None) -> None:
        """Say who belongs to the cluster when that has changed; the first ones are in everybody's files."""
        known, self._members = self._members, configuration
        if known is not None and configuration is not None and known != configuration:
            _log.info("%s", _members_text(configuration))

    def _trouble(self, status: ReplicaStatus, connected: Sequence[NodeId], now: float) -> str:
        node_id = status.raft.id
        if status.refused:
            return f"the cluster refuses this node: {status.refused}"
        configuration = status.raft.configuration
        if configuration is None:
            listed = [member.id for member in self._config.cluster.members]
            missing = [str(each) for each in listed if each != node_id and each not in connected]
            if not listed:
                return (
                    "this node belongs to no cluster and serves nobody: it waits for RAFT.CLUSTER INIT, or "
                    "for RAFT.CLUSTER JOIN host:port"
                )
            if not missing:
                return "all members are connected, and the cluster has not formed: see the other nodes' logs"
            names = ", ".join(missing)
            return f"waiting for node {names} to form the cluster: its first start needs all its members"
        voters = configuration.voters()
        reached = [voter for voter in voters if voter == node_id or voter in connected]
        return (
            f"no leader for {now - self._led_at:.0f} s: this node reaches {len(reached)} of {len(voters)} "
            f"voters, itself included, and a leader needs {len(voters) // 2 + 1}"
        )


def _members_text(configuration: Configuration) -> str:
    """Return who belongs to the cluster, and what the change under way will make of it."""
    learners = [member.id for member in configuration.members if not configuration.is_voter(member.id)]
    text = f"members: {_list(configuration.voters())}"
    text += f"; without a vote: {_list(learners)}" if learners else ""
    if configuration.planned_voters:
        waited_for = [each for each in configuration.planned_voters if not configuration.is_voter(each)]
        text += f"; waiting for {_list(waited_for)} to catch up"
    if configuration.old_voters:
        text += f"; changing the voters to {_list(configuration.new_voters())}"
    return text


def _list(ids: Iterable[NodeId]) -> str:
    return ", ".join(map(str, ids))
