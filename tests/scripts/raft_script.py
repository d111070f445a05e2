"""The commands of the scripts under `raft/`: a cluster of cores in which nothing moves by itself.

    cluster nodes=3 [learners=4] [empty] [lease] [append_bytes=N] [inflight=N]
                             nodes whose durable logs hold their configuration, at term 1; or nothing
    log N terms=1,2,2 [term=5] [vote=2]
                             start node N anew, with such a log on its disk
    bootstrap N              found the cluster of an `empty` one
    tick N|all [count]       let ticks pass
    campaign N [transfer]    stand for election now
    elect N                  the same, with everything delivered and written, silently
    propose N payload ...    append, on a leader, in one turn
    read N token ...         ask for a read index, in one turn
    ask N token              ask the leader for one, by message
    spawn N                  start a node that knows nothing, for a later change to add
    change N 1,2,4 [learners=5] [addresses=4@host:port,...]
                             ask leader N for exactly these voters and learners; a refusal is shown
    members N                the configuration that counts on node N
    retire N                 tell node N that it was removed
    deliver [from=N] [to=N] [kind=AppendRequest] [count=N]
                             deliver what is under way now, or as many of it
    lose, repeat [...]       the same filters: drop it; deliver it but keep it under way
    persist N                complete node N's write
    run                      deliver and write until nothing is left
    settle                   the same, silently
    cut N, heal              lose everything from and to node N; lose nothing any more
    transfer N [M]           leader N hands over to M, or to the best voter
    crash N, start N         all that was not written is lost
    unreachable N M          tell node N that its link to M has ended
    compact N index          flush node N's state, and cut its log off up to there
    take N name              copy node N's state as of what it has applied
    install N name           that state has arrived whole at node N
    ended N M                tell node N that its transfer to M has ended
    gone N M                 tell node N that the process of M has ended
    show [N]                 role, term, indexes, and a leader's view of its peers
    mail                     what is under way

Each effect is a line: a message sent, a write begun, entries applied, reads confirmed or refused.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from respraft.config import RaftConfig
from respraft.raft.configuration import Configuration
from respraft.raft.membership import ChangeRefused
from respraft.raft.message import (
    NOBODY,
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    NodeId,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from respraft.raft.ready import LogWrite, NotLeader, PeerStatus, Ready, Role, TransferRefused
from tests.unit.raft.cluster import Cluster, Envelope, Host, configuration_of


class RaftScript:
    """One script's cluster. `execute()` takes one line and returns what it led to."""

    def __init__(self) -> None:
        self.cluster = Cluster(0)
        self.lines: list[str] = []
        self.states: dict[str, InstallSnapshot] = {}

    def execute(self, line: str) -> str:
        """Carry out one command."""
        name, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        arguments = [word for word in words if "=" not in word]
        command: Callable[[list[str], dict[str, str]], None] = getattr(self, f"do_{name}")
        self.lines = []
        command(arguments, options)
        return "\n".join(self.lines)

    # Setting up

    def do_cluster(self, arguments: list[str], options: dict[str, str]) -> None:
        limits = {"append_bytes": "append_bytes_max", "inflight": "inflight_appends_max"}
        settings: dict[str, Any] = {limits[key]: int(options[key]) for key in limits if key in options}
        if "lease" in arguments:
            settings["read_mode"] = "lease"
        config = RaftConfig(**settings)
        learners = [int(each) for each in options.get("learners", "").split(",") if each]
        terms = [] if "empty" in arguments else [1]
        self.cluster = Cluster(int(options["nodes"]), learners=learners, config=config, terms=terms)
        for host in self.cluster.hosts.values():
            host.turn()  # Applies the configuration, which no script is about.
            host.node.bound_by_past = False  # These have been up for long.
        self.cluster.watch = self.on_ready
        self.cluster.watch_mail = self.on_send

    def do_log(self, arguments: list[str], options: dict[str, str]) -> None:
        terms = [int(term) for term in options["terms"].split(",")]
        term, vote = int(options.get("term", 0)), int(options.get("vote", 0))
        disk = self.cluster.disk_with(terms, term=term, vote=vote)
        self.cluster.watch = None
        self.cluster.replace(int(arguments[0]), disk).turn()
        self.cluster.watch = self.on_ready

    def do_bootstrap(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        host.node.bootstrap(self.cluster.configuration)
        host.turn()

    # Inputs of a node

    def do_tick(self, arguments: list[str], options: dict[str, str]) -> None:
        hosts = list(self.cluster.hosts.values()) if arguments[0] == "all" else [self.host(arguments[0])]
        for _ in range(int(arguments[1]) if len(arguments) > 1 else 1):
            self.cluster.time_ms += 10
            for host in hosts:
                if host.up:
                    host.tick()

    def do_campaign(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        host.observe()
        host.node.campaign(transfer="transfer" in arguments)
        host.turn()

    def do_elect(self, arguments: list[str], options: dict[str, str]) -> None:
        self.cluster.elect(int(arguments[0]))
        self.lines = []

    def do_propose(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        try:
            host.propose(*[each.encode() for each in arguments[1:]])
        except NotLeader:
            self.lines.append(f"n{host.id} takes no proposal")

    def do_read(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        host.observe()
        for token in arguments[1:]:
            host.node.read_index(token)
        host.turn()

    def do_ask(self, arguments: list[str], options: dict[str, str]) -> None:
        node = self.host(arguments[0]).node
        self.cluster.send(
            node.node_id, node.leader, ReadIndexRequest(node.node_id, node.term, (1, int(arguments[1])))
        )

    def do_transfer(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        host.observe()
        try:
            host.node.transfer_leadership(int(arguments[1]) if len(arguments) > 1 else NOBODY)
        except (NotLeader, TransferRefused) as refusal:
            self.lines.append(f"n{host.id} refuses: {str(refusal) or type(refusal).__name__}")
        host.turn()

    def do_persist(self, arguments: list[str], options: dict[str, str]) -> None:
        self.host(arguments[0]).persist()

    def do_crash(self, arguments: list[str], options: dict[str, str]) -> None:
        self.host(arguments[0]).crash()

    def do_start(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        host.start()
        host.turn()

    def do_unreachable(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        host.node.peer_unreachable(int(arguments[1]))
        host.turn()

    def do_compact(self, arguments: list[str], options: dict[str, str]) -> None:
        self.host(arguments[0]).compact(int(arguments[1]))

    def do_take(self, arguments: list[str], options: dict[str, str]) -> None:
        self.states[arguments[1]] = self.host(arguments[0]).snapshot()

    def do_install(self, arguments: list[str], options: dict[str, str]) -> None:
        self.host(arguments[0]).install(self.states[arguments[1]])

    def do_ended(self, arguments: list[str], options: dict[str, str]) -> None:
        self.host(arguments[0]).snapshot_ended(int(arguments[1]))

    # Membership

    def do_spawn(self, arguments: list[str], options: dict[str, str]) -> None:
        self.cluster.spawn(int(arguments[0]))

    def do_change(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        wanted = list(configuration_of(_ids(arguments[1]), _ids(options.get("learners", ""))).members)
        addresses = dict(each.split("@") for each in options.get("addresses", "").split(",") if each)
        wanted = [replace(each, peer=addresses.get(str(each.id), "")) for each in wanted]
        host.observe()
        try:
            if host.node.change_membership(wanted) is None:
                self.lines.append("nothing to change")
        except (ChangeRefused, NotLeader) as refusal:
            self.lines.append(f"{type(refusal).__name__} {refusal}".strip())
        host.turn()

    def do_members(self, arguments: list[str], options: dict[str, str]) -> None:
        configuration = self.host(arguments[0]).node.configuration
        self.lines.append(f"n{arguments[0]} knows {describe_configuration(configuration)}")

    def do_retire(self, arguments: list[str], options: dict[str, str]) -> None:
        self.host(arguments[0]).node.retire()

    def do_gone(self, arguments: list[str], options: dict[str, str]) -> None:
        host = self.host(arguments[0])
        host.observe()
        host.node.peer_gone(int(arguments[1]))
        host.turn()

    # The network

    def do_deliver(self, arguments: list[str], options: dict[str, str]) -> None:
        for envelope in self.chosen(options):
            self.cluster.mail = [each for each in self.cluster.mail if each is not envelope]
            self.cluster.deliver(envelope)

    def do_repeat(self, arguments: list[str], options: dict[str, str]) -> None:
        for envelope in self.chosen(options):
            self.cluster.deliver(envelope)

    def do_lose(self, arguments: list[str], options: dict[str, str]) -> None:
        chosen = self.chosen(options)
        self.cluster.mail = [each for each in self.cluster.mail if not any(each is lost for lost in chosen)]

    def do_run(self, arguments: list[str], options: dict[str, str]) -> None:
        self.cluster.settle()

    def do_settle(self, arguments: list[str], options: dict[str, str]) -> None:
        self.cluster.settle()
        self.lines = []

    def do_cut(self, arguments: list[str], options: dict[str, str]) -> None:
        self.cluster.isolate(int(arguments[0]))

    def do_heal(self, arguments: list[str], options: dict[str, str]) -> None:
        self.cluster.heal()

    # Looking

    def do_show(self, arguments: list[str], options: dict[str, str]) -> None:
        hosts = [self.host(arguments[0])] if arguments else list(self.cluster.hosts.values())
        self.lines += [show(host) for host in hosts]

    def do_mail(self, arguments: list[str], options: dict[str, str]) -> None:
        self.lines += [describe(envelope) for envelope in self.cluster.mail]

    def on_ready(self, host: Host, ready: Ready) -> None:
        """A node asks for things to be done."""
        if ready.write is not None:
            self.lines.append(f"n{host.id} writes {describe_write(ready.write)}")
        if ready.committed:
            self.lines.append(f"n{host.id} applies {describe_entries(ready.committed)}")
        for token, index in ready.reads:
            self.lines.append(f"n{host.id} may read {token} at {index}")
        for peer in ready.snapshots:
            self.lines.append(f"n{host.id} wants to send n{peer} a snapshot")
        for token in ready.reads_refused:
            self.lines.append(f"n{host.id} refuses read {token}")

    def on_send(self, envelope: Envelope) -> None:
        """A message has left."""
        self.lines.append(describe(envelope))

    def host(self, word: str) -> Host:
        """The host of that id."""
        return self.cluster[int(word)]

    def chosen(self, options: dict[str, str]) -> list[Envelope]:
        """Which messages a command is about."""
        chosen = [
            each
            for each in self.cluster.mail
            if options.get("from", str(each.sender)) == str(each.sender)
            and options.get("to", str(each.to)) == str(each.to)
            and options.get("kind", type(each.message).__name__) == type(each.message).__name__
        ]
        return chosen[: int(options["count"])] if "count" in options else chosen


def show(host: Host) -> str:
    """One line on a node."""
    if not host.up:
        disk = host.disk
        base = f" base={disk.base().index}/{disk.base().term}" if disk.base().index else ""
        return f"n{host.id} down, on disk: term={disk.hard_state.term}{base} last={disk.last_index()}"
    status = host.node.status()
    base = f"base={status.base.index}/{status.base.term} " if status.base.index else ""
    text = (
        f"n{host.id} {status.role:13} term={status.term} vote={_name(status.vote)} "
        f"leader={_name(status.leader)} {base}last={status.last_index}/{status.last_term} "
        f"stable={status.stable_index} commit={status.commit_index}"
    )
    if status.role is Role.LEADER:
        peers = [f"{peer.id}:{peer.match_index}/{peer.next_index}{_state(peer)}" for peer in status.peers]
        text += f" progress={{{' '.join(peers)}}}"
        if status.transfer_to:
            text += f" transfer={_name(status.transfer_to)}"
    return text


def describe(envelope: Envelope) -> str:
    """One line on a message under way. Clocks are left out."""
    return f"n{envelope.sender} -> n{envelope.to} {_describe_message(envelope.message)}"


def describe_entries(entries: list[Entry]) -> str:
    """Entries as index/term, with their payload where it is a proposal's."""
    return " ".join(f"{entry.index}/{entry.term}{_payload(entry)}" for entry in entries)


def describe_write(write: LogWrite) -> str:
    """One line on a write."""
    hard_state = write.hard_state
    text = f"#{write.number} term={hard_state.term} vote={_name(hard_state.vote)}"
    if write.snapshot is not None:
        text += f" state: {write.snapshot.point.index}/{write.snapshot.point.term}"
    if write.first_index:
        text += f" cut: {write.first_index}"
    return f"{text} entries: {describe_entries(write.entries)}" if write.entries else text


def _state(peer: PeerStatus) -> str:
    if peer.snapshot:
        return "!"
    return "?" if peer.probing else ""


def describe_configuration(configuration: Configuration | None) -> str:
    """Who votes, who learns, and what is under way."""
    if configuration is None:
        return "no configuration"
    learners = [member.id for member in configuration.members if not member.voter]
    parts = [f"voters={_list(configuration.new_voters())}"]
    for name, ids in (
        ("old", configuration.old_voters),
        ("learners", learners),
        ("planned", configuration.planned_voters),
        ("leaving", configuration.leaving),
        ("removed", configuration.removed_ids),
    ):
        if ids:
            parts.append(f"{name}={_list(ids)}")
    parts += [f"n{member.id}@{member.peer}" for member in configuration.members if member.peer]
    return " ".join(parts)


def _list(ids: Sequence[NodeId]) -> str:
    return ",".join(map(str, ids))


def _ids(text: str) -> list[NodeId]:
    return [int(each) for each in text.split(",") if each]


def _payload(entry: Entry) -> str:
    if entry.kind:
        first = entry.index == 1  # The one that every script begins with.
        return (
            "(configuration)" if first else f"({describe_configuration(Configuration.decode(entry.payload))})"
        )
    text = entry.payload.decode()
    return "" if not text or "/" in text else f"({text})"


def _name(node_id: NodeId) -> str:
    return f"n{node_id}" if node_id else "-"


def _describe_message(message: Message) -> str:
    head = f"{type(message).__name__} term={message.term}"
    match message:
        case PreVoteRequest() | VoteRequest():
            tail = f"last={message.last_index}/{message.last_term}"
            if isinstance(message, VoteRequest) and message.transfer:
                tail += " transfer"
        case PreVoteResponse() | VoteResponse():
            tail = "granted" if message.granted else "refused"
        case AppendRequest():
            tail = f"base={message.base_index}/{message.base_term} commit={message.commit_index}"
            if message.entries:
                tail += f" entries: {describe_entries(message.entries)}"
        case AppendResponse():
            tail = f"match={message.match_index}"
            if message.reject_index:
                tail = f"reject={message.reject_index} hint={message.hint_index}/{message.hint_term}"
        case HeartbeatRequest():
            tail = f"round={message.round} commit={message.commit_index}"
        case HeartbeatResponse():
            tail = f"round={message.round}"
        case ReadIndexRequest():
            tail = f"token={message.token[1]}"
        case ReadIndexResponse():
            tail = f"token={message.token[1]} " + (f"index={message.index}" if message.index else "refused")
        case TimeoutNow():
            return head
    return f"{head} {tail}"
