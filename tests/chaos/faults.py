"""What is done to a cluster: each fault hurts, waits and makes good, whatever the others do meanwhile."""

import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Callable
from typing import Final

from tests.chaos.proxy import FREE, Rule
from tests.chaos.world import END_S, World
from tests.process.injection import injected

Fault = Callable[[World], None]

FILLED_LEFT_BYTES: Final = 8 * 1024
JOIN_S: Final = 60.0


def kill(world: World) -> None:
    """SIGKILL one, the leader, or all."""
    draw = world.rng.random()
    with (
        world.claim(leader=draw < 0.4, count=world.size if draw > 0.8 else 1) as chosen,
        world.hurting(*chosen),
    ):
        world.cluster.kill(*chosen)
        world.pause(0, 2)
        world.relaunch(*chosen)


def terminate(world: World) -> None:
    """SIGTERM."""
    with world.claim(leader=world.rng.random() < 0.5) as chosen, world.hurting(*chosen):
        for number in chosen:
            world.stop(number)
            world.pause(0, 1)
            world.relaunch(number)
            world.pause(0.5, 1)


def stop_and_go(world: World) -> None:
    """SIGSTOP, for moments or long enough to lose leadership, once or in a stutter."""
    with (
        world.claim(leader=world.rng.random() < 0.5, count=world.rng.choice((1, 1, 2))) as chosen,
        world.hurting(*chosen),
    ):
        longest = world.rng.choice((0.05, 0.6, 3.0))
        for _ in range(world.rng.choice((1, 1, 8))):
            for number in chosen:
                world.cluster.pause(number)
            world.pause(longest / 4, longest)
            for number in chosen:
                world.cluster.resume(number)
            world.pause(0, 0.2)


def part(world: World) -> None:
    """A network that cuts, drops one way, delays or resets."""
    assert world.proxy is not None
    ids = world.shuffled({world.ids[number] for number in world.members})
    leader = world.leader()
    if leader is not None and world.rng.random() < 0.5:  # More often than not it is about the leader.
        ids.sort(key=lambda id_: id_ != world.ids[leader])
    some = ids[: world.rng.randint(1, len(ids) // 2)]
    rest = [id_ for id_ in ids if id_ not in some]
    out, back = list(itertools.product(some, rest)), list(itertools.product(rest, some))
    pairs = world.rng.choice((out, back, out + back, out + back, list(itertools.permutations(ids, 2))))
    slow = Rule(delay_s=world.rng.choice((0.01, 0.1, 0.3)), jitter_s=world.rng.choice((0, 0.2)))
    rule = world.rng.choice((Rule(held=True), Rule(held=True), Rule(refused=True), slow))
    # Who is cut off answers late, or not in time.
    world.note(f"{sorted(set(pairs))}: {rule}")
    with world.hurting(*world.members) if rule.held or rule.refused else contextlib.nullcontext():
        for _ in range(world.rng.choice((1, 1, 5))):
            world.proxy.set(pairs, rule, reset=world.rng.random() < 0.3)
            world.pause(0.1, 3)
            world.proxy.heal(reset=world.rng.random() < 0.5)
            world.pause(0, 0.3)


def flicker(world: World) -> None:
    """Connections between nodes end, one here, one there: messages are lost, and the next ones are not."""
    assert world.proxy is not None
    ids = [world.ids[number] for number in sorted(world.members)]
    least_s = world.rng.choice((0.005, 0.05, 0.3))
    for _ in range(world.rng.randint(1, 30)):
        world.proxy.set([tuple(world.rng.sample(ids, 2))], FREE, reset=True)  # type: ignore[list-item]
        world.pause(least_s, 3 * least_s)


def slow_disk(world: World) -> None:
    """Every sync takes long."""
    with world.claim(leader=world.rng.random() < 0.5) as chosen, contextlib.ExitStack() as stack:
        delay_us = world.rng.choice((5_000, 50_000, 400_000))
        stack.enter_context(world.hurting(*chosen))
        for number in chosen:
            pid = world.cluster.pid(number)
            stack.enter_context(injected(pid, f"fdatasync:delay_enter={delay_us}"))
        world.pause(1, 4)


def broken_disk(world: World) -> None:
    """A sync fails: the node must end, and is whole when it is started again."""
    with world.claim() as chosen, world.hurting(*chosen):
        for number in chosen:
            with (
                contextlib.suppress(AssertionError),
                injected(world.cluster.pid(number), "fdatasync:error=EIO:when=1"),
            ):
                code = world.cluster.wait(number, END_S)
                if code != os.EX_IOERR:
                    world.anomaly(f"node {number} ended with {code} after a failed sync")
            world.relaunch(number)


def lost_disk(world: World) -> None:
    """A member's directory is gone; it rejoins under another id."""
    with world.membership, world.claim() as chosen:
        for number in [each for each in chosen if each <= world.size and world.is_voter(each)]:
            with world.hurting(number):
                world.cluster.kill(number)
                world.cluster.wipe(number)
                world.repair(number)
                world.relaunch(number)
                # It may need others that are hurt just now. Nobody else loses a disk before it is back.
                world.eventually(lambda: world.is_voter(number), JOIN_S, f"node {number} is a voter again")  # noqa: B023


def grow_and_shrink(world: World) -> None:
    """A node joins, and maybe another one leaves."""
    with world.membership:
        number = world.newcomer()
        with world.hurting(number):
            if not world.joins(number, JOIN_S):
                world.cluster.kill(number)
                return
        world.members.add(number)
        if len(world.members) > world.size + 1 or world.rng.random() < 0.6:
            with world.claim() as chosen:
                for victim in chosen:
                    remove(world, victim)


def remove(world: World, victim: int) -> None:
    """Take a node out of the cluster for good."""
    with world.hurting(victim):
        world.members.discard(victim)
        ending_s = time.monotonic() + JOIN_S
        while time.monotonic() < ending_s:
            via = world.shuffled(world.members)[0]
            said = world.ask(via, "RAFT.NODE", "REMOVE", world.ids[victim])
            if said == "OK" or "does not exist" in said:
                world.cluster.kill(victim)
                return
            world.rest(0.3, 0.5)
        world.anomaly(f"node {victim} cannot be removed: {said}")


def move(world: World) -> None:
    """A node comes back at other addresses."""
    with world.membership, world.claim() as chosen:
        for number in chosen:
            with world.hurting(number):
                world.stop(number)
                world.cluster.move(number)
                world.relaunch(number)
                node = world.cluster.nodes[number]
                peer = f"127.0.0.1:{node.advertised_port or node.peer_port}"
                client = f"127.0.0.1:{node.client_port}"
                ending_s = time.monotonic() + JOIN_S
                said = ""
                while said != "OK" and time.monotonic() < ending_s:
                    via = world.shuffled(world.members - {number})[0]
                    said = world.ask(via, "RAFT.NODE", "MOVE", world.ids[number], peer, client)
                    world.rest(0.1, 0.5)
                if said != "OK":
                    world.anomaly(f"node {number} cannot be moved: {said}")


def starve(world: World) -> None:
    """Others want the processors, too."""
    with world.starving(world.rng.choice((4, 12))):
        world.pause(1, 5)


def hand_over(world: World) -> None:
    """Leadership is handed over, again and again, to whomever."""
    for _ in range(world.rng.randint(1, 15)):
        number = world.shuffled(world.members)[0]
        to = [world.ids[world.shuffled(world.members)[0]]] if world.rng.random() < 0.5 else []
        world.ask(number, "RAFT.TRANSFER_LEADER", *to)
        world.pause(0, 0.3)


def flush(world: World) -> None:
    """Everybody cuts his log off."""
    for number in world.shuffled(world.members):
        world.ask(number, "RAFT.SNAPSHOT", "NOW")


def _strace() -> bool:
    return shutil.which("strace") is not None


def faults(*, proxy: bool) -> list[Fault]:
    """Return what can be done to a cluster on this machine, the frequent ones several times."""
    chosen: list[Fault] = [kill, kill, terminate, stop_and_go, stop_and_go]
    chosen += [part, part, flicker] * proxy
    chosen += [hand_over, flush, lost_disk, grow_and_shrink, move, starve]
    return chosen + [slow_disk, slow_disk, broken_disk] * _strace()
