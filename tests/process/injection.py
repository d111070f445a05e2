"""System calls of a running process that fail or take long, by strace."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def injected(pid: int, what: str) -> Iterator[None]:
    """Do `what` to a process, as strace's `inject=` takes it.

    "fdatasync:error=EIO:when=1" makes the next fdatasync of each thread fail.
    """
    call = what.partition(":")[0]
    strace = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-e", f"trace={call}", "-e", f"inject={what}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    first_words = strace.stderr.readline()
    try:
        assert "attached" in first_words, first_words
        yield
    finally:
        # It ends with the process that it traces; ending it early lets that one go.
        strace.terminate()
        strace.communicate(timeout=20)
