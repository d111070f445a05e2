"""INFO: what this node says about itself, in Redis's sections and under Redis's names.

Clients and their tools parse it, so a name that Redis has means here what it means there. What has no
meaning here is left out, save for a few zeros that tools insist on.
"""

import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from respraft import __version__, build
from respraft.config import parse_address
from respraft.resp.replies import Reply, Verbatim
from respraft.server.local.view import ClientView, MemberStatus, NodeState, ServerView

REDIS_VERSION: Final = "7.0.15"
"""The Redis whose protocol and texts this server follows; clients switch features by it."""

Fields = Mapping[str, str | int]

_ALL: Final = (b"all", b"default", b"everything")
_DAY_SECONDS: Final = 24 * 60 * 60
_UNITS: Final = "BKMGT"
_UNIT: Final = 1024


def info(server: ServerView, _client: ClientView, args: list[bytes]) -> Reply:
    """INFO [section ...]. Sections come in a fixed order; unknown ones are passed over."""
    wanted = {word.lower() for word in args[1:]}
    everything = not wanted or not wanted.isdisjoint(_ALL)
    return Verbatim(
        "txt",
        "\r\n".join(
            _section(title, fields(server))
            for title, fields in _SECTIONS
            if everything or title.lower().encode("ascii") in wanted
        ).encode(),
    )


def _section(title: str, fields: Fields) -> str:
    return f"# {title}\r\n" + "".join(f"{name}:{value}\r\n" for name, value in fields.items())


def _server(server: ServerView) -> Fields:
    uptime_s = int(server.uptime_s)
    return {
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_mode": "standalone",
        "respraft_version": __version__,
        "respraft_build": build.kind(),
        "python_version": platform.python_version(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": 8 * struct.calcsize("P"),
        "monotonic_clock": "POSIX clock_gettime",
        "process_id": os.getpid(),
        "run_id": server.run_id,
        "tcp_port": parse_address(server.node_config.client.listen)[1],
        "server_time_usec": server.wall_ms() * 1000,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // _DAY_SECONDS,
        "executable": sys.executable,
        "io_threads_active": 0,
    }


def _clients(server: ServerView) -> Fields:
    clients = list(server.clients())
    return {
        "connected_clients": len(clients),
        "cluster_connections": 0,
        "maxclients": server.node_config.client.max_clients,
        "client_recent_max_input_buffer": max((client.query_bytes for client in clients), default=0),
        "client_recent_max_output_buffer": max((client.output_bytes for client in clients), default=0),
        "blocked_clients": 0,
        "tracking_clients": 0,
    }


def _memory(_server: ServerView) -> Fields:
    resident = _resident_bytes()
    peak = max(resident, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {
        "used_memory": resident,
        "used_memory_human": _human(resident),
        "used_memory_rss": resident,
        "used_memory_rss_human": _human(resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": _human(peak),
        "maxmemory": 0,
        "maxmemory_human": "0B",
        "maxmemory_policy": "noeviction",
        "mem_fragmentation_ratio": "1.00",
    }


def _persistence(server: ServerView) -> Fields:
    return {
        "loading": int(server.raft_status().state is NodeState.LOADING),
        "rdb_bgsave_in_progress": 0,
        "rdb_last_bgsave_status": "ok",
        "aof_enabled": 1,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": "ok",
    }


def _stats(server: ServerView) -> Fields:
    counters = server.counters()
    return {
        "total_connections_received": counters.connections,
        "total_commands_processed": counters.commands,
        "total_net_input_bytes": counters.input_bytes,
        "total_net_output_bytes": counters.output_bytes,
        "rejected_connections": counters.rejected,
        "evicted_keys": 0,
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
    }


def _replication(server: ServerView) -> Fields:
    # Replication is Raft's, and every node takes writes: to a client each of them is a master without
    # replicas.
    return {
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": server.run_id,
        "master_repl_offset": server.raft_status().applied_index,
    }


def _cpu(_server: ServerView) -> Fields:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"used_cpu_sys": f"{usage.ru_stime:.6f}", "used_cpu_user": f"{usage.ru_utime:.6f}"}


def _cluster(_server: ServerView) -> Fields:
    return {"cluster_enabled": 0}


def _keyspace(server: ServerView) -> Fields:
    return {
        f"db{number}": f"keys={size.keys},expires={size.expires},avg_ttl=0"
        for number, size in sorted(server.database_sizes().items())
    }


def _raft(server: ServerView) -> Fields:
    """Return RedisRaft's fields, for those whose dashboards know them."""
    status = server.raft_status()
    voters = [member.id for member in status.members if member.voter]
    fields: dict[str, str | int] = {
        "version": __version__,
        "dbid": status.cluster_id,
        "node_id": status.node_id,
        "state": status.state,
        "role": status.role,
        "is_voting": _yes_or_no(status.node_id in voters),
        "voted_for": status.voted_for,
        "leader_id": status.leader_id,
        "current_term": status.term,
        "num_nodes": len(status.members),
        "num_voting_nodes": len(voters),
    }
    for member in status.members:
        fields[f"node{member.id}"] = _raft_member(member)
    # An empty log counts from 1 to 0.
    fields |= {
        "log_entries": status.last_index - status.first_index + 1,
        "current_index": status.last_index,
        "commit_index": status.commit_index,
        "last_applied_index": status.applied_index,
        "file_size": status.log_file_bytes,
        "fsync_count": status.fsync_count,
        "fsync_max_microseconds": status.fsync_max_us,
        "fsync_avg_microseconds": status.fsync_avg_us,
        "snapshot_last_idx": status.snapshot_index,
        "snapshot_last_term": status.snapshot_term,
        "snapshot_size": sum(each.size_bytes for each in server.snapshots()),
        "snapshots_created": status.snapshots_created,
        "snapshots_received": status.snapshots_received,
        "proxy_reqs": status.proxy_reqs,
        "proxy_outstanding_reqs": status.proxy_outstanding_reqs,
    }
    return {f"raft_{name}": value for name, value in fields.items()}


def _raft_member(member: MemberStatus) -> str:
    host, port = parse_address(member.peer)
    since = -1 if member.last_conn_secs is None else member.last_conn_secs
    return (
        f"id={member.id},state={'connected' if member.connected else 'disconnected'},"
        f"voting={_yes_or_no(member.voter)},addr={host},port={port},"
        f"last_conn_secs={since},conn_errors={member.conn_errors},conn_oks={member.conn_oks}"
    )


def _yes_or_no(flag: bool) -> str:
    return "yes" if flag else "no"


def _resident_bytes() -> int:
    """Return the memory of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _human(size: int) -> str:
    """Print a size as Redis does: 512B, 1.02M."""
    if size < _UNIT:
        return f"{size}B"
    scaled = float(size)
    unit = 0
    while scaled >= _UNIT and unit < len(_UNITS) - 1:
        scaled /= _UNIT
        unit += 1
    return f"{scaled:.2f}{_UNITS[unit]}"


_SECTIONS: Final[tuple[tuple[str, Callable[[ServerView], Fields]], ...]] = (
    ("Server", _server),
    ("Clients", _clients),
    ("Memory", _memory),
    ("Persistence", _persistence),
    ("Stats", _stats),
    ("Replication", _replication),
    ("CPU", _cpu),
    ("Cluster", _cluster),
    ("Keyspace", _keyspace),
    ("Raft", _raft),
)

FUNCTIONS: Final = {b"INFO": info}
