"""Hurt real clusters: `python -m tests.chaos --seeds 5 --minutes 1`, or `--seed 7` for one mix of faults.

A seed draws the cluster and which faults come in which order. What happens between real processes is not
repeated by it: why something failed is found in the logs, which are kept.
"""

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from tests.benchmark.machine import end_servers_on_sigterm
from tests.chaos import check, faults
from tests.chaos.clients import TOTAL, Client
from tests.chaos.world import World
from tests.simulation.linearizability import Operation

REST_S: Final = 3.0
"""Between faults, at least, where there is one at a time: then clients must not wait any more."""
BALLAST_BYTES: Final = 5_000
WELL_S: Final = 5.0
"""After the faults every node takes a write within this time: an election, or two, and catching up."""
START_S: Final = 10.0
"""The same for one that had to be started."""
SAME_S: Final = 20.0
FADED_S: Final = 2.0
"""By then every key with a deadline is gone, by any clock, so that states can be read one after another."""
RSS_BYTES_MAX: Final = 400 << 20


def main() -> int:
    """Return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", type=int, default=3, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="beginning with this one")
    parser.add_argument("--minutes", type=float, default=1.0, help="of faults, for each")
    parser.add_argument("--only", default="", help="faults to draw from, as kill,part")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where nodes live")
    end_servers_on_sigterm()
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    only = options.only.split(",") if options.only else []
    bad = 0
    for seed in seeds:
        directory = Path(tempfile.mkdtemp(prefix=f"respraft-chaos-{seed}-", dir=options.dir))
        anomalies = run(seed, directory, 60 * options.minutes, only)
        for text in anomalies:
            print(f"  ANOMALY {text}")
        if anomalies:
            bad += 1
            print(f"  logs in {directory}")
        else:
            shutil.rmtree(directory)
    return min(bad, 1)


def run(seed: int, directory: Path, seconds: float, only: list[str]) -> list[str]:
    """Hurt one cluster; return what was wrong."""
    world = World(seed, directory)
    print(f"seed {seed}: {world.drawn}", flush=True)
    try:
        world.cluster.start()
        load(world)
        clients = [
            Client(n, world, world.record, 1000 * seed + n, world.think_s) for n in range(world.clients)
        ]
        for client in clients:
            client.start()
        done = hurt(world, seed, seconds, only)
        recover(world)
        for client in clients:
            client.stop()
        for client in clients:
            client.join(30)
            if client.is_alive():
                world.anomaly(f"{client.name} never got its reply")
        try:
            judge(world)
        except AssertionError as error:  # A node that never came back does not say what it has.
            world.anomaly(f"not all could be compared: {error}")
        print(f"  {', '.join(f'{name} {count}' for name, count in sorted(done.items()))}")
    finally:
        world.close()
    return world.record.anomalies


def load(world: World) -> None:
    """Write what makes a state large, before anything happens."""
    with world.cluster.client(1) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(world.ballast):
            pipeline.set(f"ballast:{number}", world.rng.randbytes(BALLAST_BYTES))
        pipeline.execute()


def hurt(world: World, seed: int, seconds: float, only: list[str]) -> dict[str, int]:
    """Let faults follow each other, some at a time; return how often each came."""
    done: dict[str, int] = {}
    chosen = faults.faults(proxy=world.proxy is not None)
    chosen = [fault for fault in chosen if not only or fault.__name__ in only]
    many = world.rng.choice((1, 1, 2))

    def nemesis(number: int) -> None:
        draw = random.Random(100 * seed + number)
        while not world.over.wait(draw.uniform(REST_S, 1.3 * REST_S) if many == 1 else draw.random() / 2):
            fault = draw.choice(chosen)
            said_s = time.monotonic()
            world.note(f"{fault.__name__} ...")
            try:
                with world.fault(fault.__name__):
                    fault(world)
            except Exception as error:
                world.anomaly(f"{fault.__name__}: {type(error).__name__}: {error}")
            done[fault.__name__] = done.get(fault.__name__, 0) + 1
            world.note(f"{fault.__name__} is over after {time.monotonic() - said_s:.1f} s")

    threads = [threading.Thread(target=nemesis, args=(number,), daemon=True) for number in range(many)]
    for thread in threads:
        thread.start()
    ending_s = time.monotonic() + seconds
    while time.monotonic() < ending_s:
        time.sleep(0.2)
        world.look_for_dead()
    world.over.set()
    for thread in threads:
        thread.join(120)
        if thread.is_alive():
            world.anomaly("a fault does not end")
    return done


def recover(world: World) -> None:
    """Nothing hurts any more: every node must take writes soon."""
    if world.proxy is not None:
        world.proxy.heal(reset=False)
    started = [number for number in world.members if not world.cluster.nodes[number].alive]
    world.relaunch(*started)
    began_s = time.monotonic()
    waited = {}
    for number in sorted(world.members):
        world.eventually(lambda: writable(world, number), 2 * START_S, f"node {number} takes writes")  # noqa: B023
        waited[number] = time.monotonic() - began_s
        limit_s = START_S if started else WELL_S
        if waited[number] > limit_s:
            world.anomaly(f"node {number} took writes only after {waited[number]:.1f} s")
    shown = ", ".join(f"{number}: {took:.1f}" for number, took in waited.items())
    print(f"  took writes after {shown} s; started anew: {started}", flush=True)


def writable(world: World, number: int) -> bool:
    return world.ask(number, "SET", f"well:{number}", "yes", timeout_s=2 * START_S) == "OK"


def judge(world: World) -> None:
    """Compare nodes and histories with what must be, and end the cluster as an operator does."""
    record = world.record
    members = sorted(world.members)
    world.eventually(lambda: same_place(world, members), SAME_S, "all nodes have applied the same")
    time.sleep(FADED_S)
    states = {number: check.contents(world.cluster.nodes[number]) for number in members}
    first = states[members[0]]
    for number in members[1:]:
        if states[number] != first:
            keys = [
                key
                for key in first.keys() | states[number].keys()
                if first.get(key) != states[number].get(key)
            ]
            shown = [(key, first.get(key), states[number].get(key)) for key in keys[:3]]
            world.anomaly(f"nodes {members[0]} and {number} differ in {len(keys)} keys: {shown}")
    stamp = next(record.stamps)
    judged = {operation.key for operation in record.operations}
    last = [Operation((b"GET", key), stamp, None, stamp + 1, first.get(key)) for key in judged]  # type: ignore[arg-type]
    wrong, undecided = check.linearizable(record, last)
    total = first.get(TOTAL, b"0")
    assert isinstance(total, bytes)
    record.anomalies += [*wrong, *check.counted_once(record, int(total)), *check.pairs_agree(record)]
    most = max(world.cluster.rss_bytes(number) for number in members)
    if most > RSS_BYTES_MAX:
        world.anomaly(f"a node holds {most >> 20} MiB")
    for number in members:
        world.stop(number)
    for number in world.cluster.nodes:
        for lines in check.ugly_lines(world.cluster.log_text(number)):
            world.anomaly(f"node {number} logged:\n{lines}")
    codes = ", ".join(f"{code} {count}" for code, count in record.codes.most_common())
    print(
        f"  {codes}; {len(judged)} keys, {undecided} undecided; slowest {record.slowest_s:.1f} s; "
        f"{most >> 20} MiB"
    )
    waits = ", ".join(
        f"{name} {waited:.1f}" for name, waited in sorted(record.waits_s.items()) if waited > 0.1
    )
    print(f"  still waited after the end of: {waits}")
    for said, count in sorted(world.said.items()):
        if not said.endswith(": OK"):
            print(f"  said {count} times: {said}")


def same_place(world: World, members: list[int]) -> bool:
    states = [world.status(number) for number in members]
    return len({state["applied_index"] if state else None for state in states}) == 1 and states[0] is not None


if __name__ == "__main__":
    sys.exit(main())
