"""Ports of tests: what one test process was given, another is not."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.process.ports import free_base, free_ports

ROOT: Final = Path(__file__).parents[2]
ELSEWHERE: Final = """
import itertools, sys
from tests.process import ports
ports._candidates = itertools.count(int(sys.argv[1]))
print(*ports.free_ports(20))
"""


def test_ports_are_handed_out_once_here() -> None:
    base = free_base((100, 200))
    given = free_ports(300)
    assert len(set(given)) == 300
    assert not {base, base + 100, base + 200} & set(given)


def test_ports_are_handed_out_once_on_this_machine() -> None:
    ours = free_ports(10)  # Nobody listens on them, as with servers that were killed.
    said = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(ours[0])], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    theirs = {int(port) for port in said.split()}
    assert len(theirs) == 20
    assert not theirs & set(ours)
