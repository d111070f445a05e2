"""The command line: `respraft server`, `respraft cluster`, `respraft repair`, `respraft --version`.

Arguments are read here and nothing is decided; what a command does is in the module it names. That module
is imported only once its command is known, so that `--version` needs no RocksDB.

Exit codes: 0 ended as asked, 1 failed while running, 2 the arguments or the configuration are wrong (one line
on stderr, `respraft: ...`, says what would be right), 3 the data directory does not allow a start (the log
says why and what to do), 70 an internal error, 74 the disk failed.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from respraft import __version__, build
from respraft.config import Config, ConfigError, parse_address
from respraft.config_file import load

EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_STORAGE_FAILED: Final = 74
DEFAULT_NODES: Final = 3
DEFAULT_PORT: Final = 7001
DEFAULT_DIRECTORY: Final = Path("data")

_LOG: Final = logging.getLogger("respraft.cli")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of the process."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "server":
            return _server(arguments.config)
        if arguments.command == "worker":
            return _worker(arguments.descriptors)
        if arguments.command == "repair":
            return _repair(arguments)
        return _cluster(arguments)
    except ConfigError as error:
        print(f"respraft: {error}", file=sys.stderr)
        return EXIT_USAGE


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write log lines to stderr, one per event: UTC time, level, logger, text."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="respraft", description="A consensus server that speaks the Redis protocol."
    )
    parser.add_argument("--version", action="version", version=f"respraft {__version__} ({build.kind()})")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    server = commands.add_parser("server", help="run one node", description="Run one node until SIGTERM.")
    server.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="its TOML file; see conf/respraft.toml"
    )

    # Not in the list of commands: a node's process starts it, and nobody else can.
    worker = commands.add_parser("worker")
    worker.add_argument("descriptors", type=int, nargs="+")

    cluster = commands.add_parser(
        "cluster",
        help="run a cluster on this machine, to try things out",
        description="Run a cluster on loopback until Ctrl-C. Started again, the data is there. "
        "Node i serves clients on PORT+i-1, peers on PORT+100+i-1 and HTTP on PORT+200+i-1.",
    )
    cluster.add_argument(
        "--nodes", type=int, default=DEFAULT_NODES, metavar="N", help="1 to 7 (default: %(default)s)"
    )
    cluster.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="client port of node 1 (default: %(default)s)"
    )
    cluster.add_argument(
        "--dir",
        type=Path,
        default=DEFAULT_DIRECTORY,
        dest="directory",
        help="node i keeps its files in DIR/node-i (default: %(default)s)",
    )
    repair = commands.add_parser(
        "repair",
        help="bring back a node that lost data",
        description="Set the data of a stopped node aside, and prepare its directory so that the next start "
        "brings it back as a new member at the same addresses. Needs the other nodes' majority.",
    )
    repair.add_argument("--rejoin", action="store_true", required=True, help="what to do; there is no other")
    repair.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's TOML file")
    repair.add_argument(
        "--contact",
        action="append",
        default=[],
        dest="contacts",
        metavar="HOST:PORT",
        help="client address of a member to ask, besides those in the file; may be repeated",
    )
    repair.add_argument(
        "--even-if-whole", action="store_true", dest="insist", help="also if nothing is wrong with the data"
    )
    return parser


def _repair(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    for contact in arguments.contacts:
        parse_address(contact)
    from respraft.repair import RepairRefused, rejoin
    from respraft.storage.interface import StartRefused, StorageFailed

    try:
        print(rejoin(config, contacts=arguments.contacts, insist=arguments.insist))
    except (RepairRefused, StartRefused) as error:
        print(f"respraft: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except (StorageFailed, OSError) as error:
        print(f"respraft: {error}; what was set aside so far stays so: run this again", file=sys.stderr)
        return EXIT_STORAGE_FAILED
    return 0


def _server(config_path: Path) -> int:
    config = load(config_path)
    log_to_stderr()
    _warn_of_exposure(config)
    from respraft.server.process import serve

    return serve(config)


def _worker(descriptors: Sequence[int]) -> int:
    log_to_stderr()
    from respraft.server.workers.process import work

    return work(descriptors[0], descriptors[1:])


def _cluster(arguments: argparse.Namespace) -> int:
    from respraft.launcher import Plan, run

    return run(Plan(nodes=arguments.nodes, port=arguments.port, directory=arguments.directory))


def _warn_of_exposure(config: Config) -> None:
    exposed = config.exposed_listeners()
    if exposed:
        _LOG.warning(
            "OPEN TO OTHER MACHINES: %s. There are no passwords yet: whoever reaches these ports can read, "
            "change and delete everything. Listen on 127.0.0.1, or let only trusted machines in by firewall.",
            ", ".join(exposed),
        )
