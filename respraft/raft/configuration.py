"""Who is in the cluster, who has a vote, and what a majority is.

A configuration is the payload of a log entry and counts from the moment that entry is *appended*,
committed or not (Raft paper, section 6). So it can be taken back: when the entry is cut off by a new
leader, the one before counts again. `ConfigurationHistory` keeps what that needs.

Learners (members without a vote) receive the log and are counted nowhere. While `old_voters` is set, the
configuration is joint: every decision needs a majority of both groups. What leads from one configuration
to the next is in `membership.py`; the arithmetic is here so that nothing counts in another way.
"""

from collections.abc import Container, Mapping

import msgspec

from respraft.raft.message import Index, NodeId


class Member(msgspec.Struct, array_like=True, frozen=True):
    """One node of the cluster."""

    id: NodeId
    peer: str  # host:port for other nodes
    client: str  # host:port for clients
    incarnation: int  # 64 random bits of its data directory: an emptied disk is another node.
    voter: bool  # False: a learner.


class Configuration(msgspec.Struct, array_like=True, frozen=True):
    """The members of the cluster as of one log entry. Never changed after it is built.

    A change of the voters goes through up to three of them (`membership.py`): *planned*, while new members
    catch up as learners; *joint*, while both groups decide; *settled*. All tuples of ids are sorted.
    """

    members: tuple[Member, ...]  # Sorted by id; those that leave are among them until the change is complete.
    old_voters: tuple[NodeId, ...] = ()  # Set in a joint configuration only.
    planned_voters: tuple[NodeId, ...] = ()  # Set in a planned one: who will vote once all have caught up.
    leaving: tuple[NodeId, ...] = ()  # Members who are none any more when the change is complete.
    removed_ids: tuple[NodeId, ...] = ()  # Of all former members: an id is never given again.
    origin: int = 0  # Incarnation of the directory that founded the cluster: two of the same name differ.

    def __post_init__(self) -> None:
        ids = [member.id for member in self.members]
        if ids != sorted(set(ids)):
            raise ValueError(f"member ids {ids} must be sorted and different from each other")

    def member(self, node_id: NodeId) -> Member | None:
        """The member of that id, or None."""
        for member in self.members:
            if member.id == node_id:
                return member
        return None

    def ids(self) -> frozenset[NodeId]:
        """The ids of all members."""
        return frozenset([member.id for member in self.members])

    @property
    def settled(self) -> bool:
        """Whether no change is under way: neither joint nor planned."""
        return not self.old_voters and not self.planned_voters

    def is_voter(self, node_id: NodeId) -> bool:
        """Whether that node's vote is asked for; in a joint configuration by either group."""
        member = self.member(node_id)
        return (member is not None and member.voter) or node_id in self.old_voters

    def new_voters(self) -> tuple[NodeId, ...]:
        """Who has a vote in this configuration itself, sorted; of a joint one the new group alone."""
        return tuple([member.id for member in self.members if member.voter])

    def voters(self) -> tuple[NodeId, ...]:
        """Everyone whose vote is asked for, sorted: in a joint configuration both groups."""
        voters = self.new_voters()
        return tuple(sorted({*voters, *self.old_voters})) if self.old_voters else voters

    def peers_of(self, node_id: NodeId) -> tuple[NodeId, ...]:
        """Everyone who receives the log from `node_id`, sorted: voters of both groups and learners."""
        ids = {member.id for member in self.members} | set(self.old_voters)
        return tuple(sorted(ids - {node_id}))

    def committed_index(self, match: Mapping[NodeId, Index]) -> Index:
        """The highest number that a majority (of both groups, if joint) has reached.

        Serves for log indexes and for heartbeat rounds alike. Who is missing in `match` has reached 0.
        """
        reached = None
        for group in self._groups():
            # Of n numbers in ascending order, the majority of n // 2 + 1 has reached the one at
            # (n - 1) // 2: the middle of 3, but the lower of the two in the middle of 4.
            numbers = sorted([match.get(voter, 0) for voter in group])
            number = numbers[(len(numbers) - 1) // 2] if numbers else 0
            reached = number if reached is None else min(reached, number)
        assert reached is not None, "there is always a group, though it may be empty"
        return reached

    def has_quorum(self, ids: Container[NodeId]) -> bool:
        """Whether `ids` hold a majority of the voters, or of both groups if joint."""
        return all(2 * sum([voter in ids for voter in group]) > len(group) for group in self._groups())

    def encode(self) -> bytes:
        """The payload of a configuration entry."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(payload: bytes) -> "Configuration":
        """Read the payload of a configuration entry.

        Raises:
            msgspec.DecodeError: It is none. Nothing else is ever raised.
        """
        return msgspec.msgpack.decode(payload, type=Configuration)

    def _groups(self) -> tuple[tuple[NodeId, ...], ...]:
        voters = self.new_voters()
        return (voters, self.old_voters) if self.old_voters else (voters,)


class ConfigurationHistory:
    """The configuration that counts, and those that would count again if entries were cut off.

    Holds the newest committed one and everything appended after it, so it stays tiny.
    """

    def __init__(self, index: Index, configuration: Configuration | None) -> None:
        self._known: list[tuple[Index, Configuration | None]] = [(index, configuration)]
        self.current = configuration

    @property
    def index(self) -> Index:
        """Where the current configuration was appended; of the first one known, at or behind that place."""
        return self._known[-1][0]

    @property
    def committed(self) -> Configuration | None:
        """The newest configuration that is known to be committed."""
        return self._known[0][1]

    def known(self) -> list[Configuration]:
        """All that count or may count again: the newest committed one, and those behind it."""
        return [configuration for _, configuration in self._known if configuration is not None]

    def append(self, index: Index, configuration: Configuration) -> None:
        """An entry with `configuration` was appended at `index`. It counts from now on."""
        assert index > self._known[-1][0], "configurations are appended in the order of the log"
        self._known.append((index, configuration))
        self.current = configuration

    def truncate(self, index: Index) -> None:
        """The entries at and above `index` are gone, and so is what they said."""
        while len(self._known) > 1 and self._known[-1][0] >= index:
            self._known.pop()
        self.current = self._known[-1][1]

    def commit_to(self, index: Index) -> None:
        """Entries up to `index` stay for ever: forget what only their loss could bring back."""
        while len(self._known) > 1 and self._known[1][0] <= index:
            del self._known[0]
