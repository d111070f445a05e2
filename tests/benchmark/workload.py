"""What is measured: workloads, and the figures that one run of a workload gives."""

from dataclasses import asdict, dataclass
from typing import Final

VALUE_BYTES: Final = 100
KEYS: Final = 100_000
"""Keys are drawn from this many at random; reads run after all of them were written."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where clients connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table."""

    command: str  # SET or GET; and SETEX or INCR, for those who speak Redis.
    clients: int
    pipeline: int  # Commands that a client sends before it waits for replies.
    value_bytes: int = VALUE_BYTES
    keys: int = KEYS
    whole: bool = False
    """Latency counts to the last reply of a pipeline, as `pipeline.py` measures it. redis-benchmark counts to
    the first one, which flatters pipelines."""
    follower: bool = False
    """Clients connect to a node that does not lead. For peers that serve them there as well."""
    spread: bool = False
    """A third of the clients connects to each node, by a load generator of their own."""

    @property
    def title(self) -> str:
        clients = "1 client" if self.clients == 1 else f"{self.clients} clients"
        how = " whole pipelines" if self.whole else " via a follower" if self.follower else ""
        how = " over all nodes" if self.spread else how
        size = "" if self.value_bytes == VALUE_BYTES else f", {self.value_bytes} B"
        return f"{self.command} {clients} P={self.pipeline}{size}{how}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a load generator saw: requests a second, and latency in milliseconds."""

    rps: float
    p50_ms: float
    p99_ms: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one workload on one peer."""

    workload: str  # Title of the workload.
    peer: str
    run: int
    requests: int
    figures: Figures
    cpu_us: float  # CPU of all the peer's processes, user and system, per request.
    generator_share: float  # CPU of the load generator, in cores. Near 1 it is the generator that bounds.
    idle_share: float  # CPU of all the other peers meanwhile, in cores: what they took away.


STANDARD: Final = (
    Workload("SET", 50, 1),
    Workload("SET", 50, 16),
    Workload("SET", 50, 16, whole=True),
    Workload("GET", 50, 1),
    Workload("GET", 50, 16),
    Workload("GET", 50, 16, whole=True),
)

FULL: Final = (
    Workload("SET", 1, 1),
    *STANDARD[:1],
    Workload("SET", 256, 1),
    *STANDARD[1:3],
    Workload("SET", 50, 64),
    Workload("SET", 50, 1, follower=True),
    Workload("SET", 50, 16, follower=True),
    Workload("SET", 50, 1, spread=True),
    Workload("SET", 50, 16, spread=True),
    Workload("GET", 1, 1),
    *STANDARD[3:4],
    Workload("GET", 256, 1),
    *STANDARD[4:],
    Workload("GET", 50, 64),
    Workload("GET", 50, 1, follower=True),
    Workload("GET", 50, 16, follower=True),
    Workload("GET", 50, 1, spread=True),
    Workload("GET", 50, 16, spread=True),
    # Last, since they leave more keys behind, and the values of 10 KB much to merge.
    Workload("SETEX", 50, 1),
    Workload("SETEX", 50, 16),
    Workload("INCR", 50, 1),
    Workload("INCR", 50, 16),
    Workload("SET", 50, 1, value_bytes=10_000),
)
