"""CONFIG GET: this node's settings under the names that Redis has for them.

Only what clients and their tools ask for, and only where it is true of this server. Nothing can be set
while the server runs: CONFIG SET is an unknown subcommand.
"""

from typing import Final

from respraft.commands.glob import compile_glob
from respraft.commands.record import DATABASES
from respraft.config import Config, parse_address
from respraft.resp.replies import Reply
from respraft.server.local.help import help_reply
from respraft.server.local.view import ClientView, ServerView

_HELP: Final = (
    "GET <pattern> [<pattern> ...]",
    "    Return parameters matching the glob-like <pattern> and their values.",
)


def get(server: ServerView, _client: ClientView, args: list[bytes]) -> Reply:
    """CONFIG GET parameter [parameter ...]."""
    patterns = [compile_glob(pattern.lower()) for pattern in args[2:]]
    return {
        name: value
        for name, value in _settings(server.node_config).items()
        if any(matches(name) for matches in patterns)
    }


def help_(_server: ServerView, _client: ClientView, _args: list[bytes]) -> Reply:
    """CONFIG HELP."""
    return help_reply("CONFIG", _HELP)


def _settings(config: Config) -> dict[bytes, bytes]:
    """Return the settings by name, sorted. A secret that is ever added here goes out redacted."""
    host, port = parse_address(config.client.listen)
    settings: dict[str, str | int] = {
        "appendfsync": "always",
        "appendonly": "yes",  # That is, every acknowledged write is on disk.
        "bind": host,
        "client-output-buffer-limit": "normal 0 0 0 slave 0 0 0 pubsub 0 0 0",  # Nobody is closed for it.
        "client-query-buffer-limit": config.client.query_buffer_bytes_max,
        "cluster-enabled": "no",  # Redis Cluster's protocol, which clients would then speak.
        "databases": DATABASES,
        "dir": str(config.node.data_dir),
        "io-threads": 1,
        "maxclients": config.client.max_clients,
        "maxmemory": 0,
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": "",
        "port": port,
        "proto-max-bulk-len": config.client.bulk_bytes_max,
        "save": "",
        "timeout": config.client.idle_timeout_s,
    }
    return {name.encode("ascii"): str(value).encode() for name, value in settings.items()}


FUNCTIONS: Final = {
    b"CONFIG|GET": get,
    b"CONFIG|HELP": help_,
}
