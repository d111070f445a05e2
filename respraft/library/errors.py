"""What can go wrong for a user of the library, one class for each thing that a caller would do about it.

    Error
    ├── NotExecuted          nothing happened and nothing will: safe to try again
    │   ├── NoLeader             no leader in time; try again when there is one
    │   ├── NotLeader            this can only be asked of the leader, which `leader` names
    │   ├── NotMember            this node does not belong to the cluster (yet, or any more)
    │   ├── Busy                 too much is in flight on this node
    │   ├── Loading              this node still replays its log
    │   ├── ReadTimeout          no quorum has confirmed the leader in time; reads only
    │   ├── ChangeRefused        a change of members that cannot be made
    │   └── Stopped              this node is not running
    ├── OutcomeUnknown       executed once or not at all; read before you write again
    ├── ReplyLost            executed once, but this node cannot tell what the machine returned
    ├── CommandError         the machine said no, on every node alike; nothing has changed
    ├── NoSuchEntry          the log does not hold that entry
    ├── SnapshotFailed       the machine cannot say what its state is
    └── NodeFailed           this node's disk or state gave out; it has stopped

`StartRefused` (the data directory must not be used) and `ConfigError` come from where they are raised.
"""

from respraft.raft.message import Index, NodeId


class Error(Exception):
    """Any of this module's errors."""


class NotExecuted(Error):
    """Nothing was executed, and nothing will be: trying again is safe."""


class NoLeader(NotExecuted):
    """No leader was known for as long as the call could wait."""


class NotLeader(NotExecuted):
    """Only the leader can do this, and this node does not lead."""

    def __init__(self, leader: NodeId | None) -> None:
        """`leader` is the leader's id as this node knows it, or None."""
        super().__init__(f"this node does not lead; node {leader} does" if leader else "no leader is known")
        self.leader = leader


class NotMember(NotExecuted):
    """This node is not a member of a cluster, or the cluster refuses it; the text says which and why."""


class Busy(NotExecuted):
    """More commands are in flight on this node than it may hold."""


class Loading(NotExecuted):
    """This node was restarted and is still far behind with its own log."""


class ReadTimeout(NotExecuted, TimeoutError):
    """No quorum has confirmed the leader in time, so the read could have been stale and was not made."""


class ChangeRefused(NotExecuted):
    """The members cannot be changed to that now; the text says why."""


class Stopped(NotExecuted):
    """The node was not started, or has been stopped."""


class OutcomeUnknown(Error, TimeoutError):
    """A write was handed over and not seen applied in time: it is executed once, now or soon, or never."""


class ReplyLost(Error):
    """A write was executed, once. It came to this node in a snapshot, which carries no replies."""


class CommandError(Error):
    """A machine refuses a command; raised in it, and given to whoever wrote the command.

    Raise it in a machine before anything was changed: the state is taken as it is then. Any other exception
    of a command reaches the writer as a CommandError too, but its changes have to be undone first, which
    costs as much as restoring a snapshot.
    """

    def __init__(self, text: str, code: str = "ERR") -> None:
        """Refuse a command.

        Args:
            text: For people, one line.
            code: For programs, one upper-case word. Redis clients get `-CODE text`.
        """
        super().__init__(text)
        self.text = text
        self.code = code


class NoSuchEntry(Error, LookupError):
    """The log of this node does not hold a committed entry of that index."""

    def __init__(self, index: Index, first: Index, commit: Index) -> None:
        """It holds the entries from `first` to `commit`."""
        held = f"entries {first} to {commit}" if commit >= first else "no entries"
        super().__init__(f"no committed entry {index}: this node holds {held}")
        self.index = index
        self.first = first
        self.commit = commit


class SnapshotFailed(Error):
    """A machine's `snapshot` raised, which is the cause of this. The last one that was made still stands."""


class NodeFailed(Error):
    """The disk gave out, or the state is in doubt. The node has stopped; its cause is `__cause__`.

    What was acknowledged is safe. What was in flight is executed once or not at all.
    """
