"""Golden scripts: commands, and behind them what they led to, in one readable file.

A script is blocks parted by blank lines. The first block is comments: what the script is about. In the
others, what follows `---` is output, and everything before it is input:

    propose 1 a b
    deliver to=2
    ---
    n1 -> n2 AppendRequest ...

What the commands mean is the business of an `execute` function; see `raft_script.py`.
"""

from collections.abc import Callable
from pathlib import Path


def run_script(path: Path, execute: Callable[[str], str], *, rewrite: bool) -> None:
    """Replay a script and compare. On a mismatch the assertion shows both texts whole.

    With `rewrite` the file is replaced instead; read the diff, and commit it only if you can explain
    every changed line.
    """
    script = path.read_text(encoding="utf-8").rstrip("\n")
    assert script.startswith("#"), f"{path.name} must open with a paragraph that says what it is about"
    replayed = "\n\n".join(_replay(block, execute) for block in script.split("\n\n"))
    if rewrite and replayed != script:
        path.write_text(replayed + "\n", encoding="utf-8")
        return
    assert replayed == script


def _replay(block: str, execute: Callable[[str], str]) -> str:
    commands, _, _expected = block.partition("\n---")
    lines = [line for line in commands.splitlines() if not line.startswith("#")]
    if not lines:
        return block  # Comments only.
    output = "\n".join(filter(None, [execute(line) for line in lines])) or "ok"
    assert "\n\n" not in output, "a blank line would end the block"
    return f"{commands}\n---\n{output}"
