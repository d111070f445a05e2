"""Compiles the hot modules with mypyc when `build_backend.py` asks for it; the rest is in pyproject.toml.

The sources are the same, compiled or not, and so are the tests. What is listed here is what a command or a
batch of commands passes through. Modules that define msgspec structs stay interpreted: mypyc drops what
stands in the head of such a class (tags, `array_like`). So do those whose classes an interpreted one has as
its base, which it cannot. tests/unit/test_build.py looks for both. And so do the functions of commands, which
must do the same on every node, however each of them was installed: mypyc 2.4 raises SystemError for a slice
of bytes that ends before it begins, which GETRANGE had.
"""

import os
from typing import Any, Final

from setuptools import setup

MODULES: Final = (
    "respraft/commands/context.py",
    "respraft/commands/execution.py",
    "respraft/commands/generation.py",
    "respraft/commands/layers.py",
    "respraft/commands/machine.py",
    "respraft/commands/overlay.py",
    "respraft/commands/record.py",
    "respraft/commands/sets.py",
    "respraft/commands/spec.py",
    "respraft/commands/stored.py",
    "respraft/commands/table.py",
    "respraft/node/driver.py",
    "respraft/peer/codec.py",
    "respraft/peer/fragments.py",
    "respraft/peer/link.py",
    "respraft/peer/look.py",
    "respraft/peer/snapshot_link.py",
    "respraft/raft/clock.py",
    "respraft/raft/election.py",
    "respraft/raft/follower.py",
    "respraft/raft/leader.py",
    "respraft/raft/lease.py",
    "respraft/raft/log.py",
    "respraft/raft/node.py",
    "respraft/raft/progress.py",
    "respraft/raft/read_index.py",
    "respraft/raft/state.py",
    "respraft/raft/transfer.py",
    "respraft/replica/admission.py",
    "respraft/replica/applier.py",
    "respraft/replica/compaction.py",
    "respraft/replica/forwarding.py",
    "respraft/replica/gathering.py",
    "respraft/replica/leading.py",
    "respraft/replica/membership.py",
    "respraft/replica/origin.py",
    "respraft/replica/payload.py",
    "respraft/replica/reading.py",
    "respraft/replica/replica.py",
    "respraft/replica/snapshots.py",
    "respraft/resp/replies.py",
    "respraft/resp/requests.py",
    "respraft/server/clients.py",
    "respraft/server/connections.py",
    "respraft/server/request_queue.py",
    "respraft/server/server.py",
    "respraft/server/workers/front.py",
    "respraft/server/workers/link.py",
    "respraft/server/workers/remote.py",
    "respraft/storage/key_order.py",
    "respraft/storage/log.py",
    "respraft/storage/log_record.py",
    "respraft/storage/mark.py",
    "respraft/storage/state.py",
    "respraft/storage/state_thread.py",
)


def extensions() -> list[Any]:
    """Return what is to be compiled: nothing, unless asked for."""
    directory = os.environ.get("RESPRAFT_COMPILE_IN")
    if directory is None:
        return []
    from mypyc.build import mypycify

    # The types have been checked, strictly, where the dependencies are installed; here they may be missing.
    options = ("--config-file=", "--ignore-missing-imports", "--follow-imports=silent")
    layout = ("--namespace-packages", "--explicit-package-bases")
    extensions: list[Any] = mypycify(
        [*options, *layout, *MODULES], opt_level="1", debug_level="0", target_dir=directory
    )
    return extensions


if __name__ == "__main__":
    setup(ext_modules=extensions())
