"""What keeps the code habitable is held by tests, not by good will: layers, sizes, words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parents[2]
SOURCE: Final = PROJECT / "respraft"
MODULES: Final = sorted(SOURCE.rglob("*.py"))
TESTS: Final = sorted(path for path in (PROJECT / "tests").rglob("*.py") if path != Path(__file__))

# Arrows point down only (ARCHITECTURE.md). `replica` knows its machine as a Protocol of its own.
ALLOWED: Final = {
    "columns": set(),
    "raft": {"raft", "config"},
    "resp": {"resp", "config"},
    "peer": {"peer", "raft", "config"},
    "storage": {"storage", "raft", "config"},
    "commands": {"commands", "resp", "storage", "columns", "config"},
    "replica": {"replica", "raft", "columns", "config"},
    "node": {"node", "replica", "peer", "storage", "raft", "config"},
    "server": {
        "build",
        "server",
        "node",
        "replica",
        "peer",
        "commands",
        "resp",
        "storage",
        "raft",
        "config",
        "metrics",
    },
    "library": {"library", "server", "node", "replica", "commands", "resp", "storage", "raft", "config"},
    "build": set[str](),
    "config": {"config_value"},
    "config_value": set[str](),
    "config_file": {"config"},
    "metrics": set[str](),
    "launcher": {"config", "config_file"},
    "repair": {"config", "raft", "replica", "storage"},
    "cli": {"build", "config", "config_file", "launcher", "repair", "server", "storage"},
    "__main__": {"cli"},
    "__init__": {"library", "config", "storage"},
}

# What a part that is said to do no I/O, and to know no clock, must not even be able to reach. The replica
# logs what an operator must hear of; the core says nothing at all.
SANS_IO: Final = ("raft", "replica", "resp")
SANS_IO_MODULES: Final = ("node/driver.py",)  # The simulator runs it.
OUTSIDE_WORLD: Final = {
    "asyncio",
    "concurrent",
    "datetime",
    "multiprocessing",
    "os",
    "pathlib",
    "rocksdict",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
    "uvloop",
}

MODULE_LINES_MAX: Final = 500
FUNCTION_LINES_MAX: Final = 80
BANNED_WORDS: Final = re.compile(r"Manager|Handler|Helper|\butils?\b|_utils?\b|\butils?_", re.IGNORECASE)
# Names that other libraries chose, and that cannot be avoided where they are used.
FOREIGN_WORDS: Final = re.compile(
    r"contextmanager|TimerHandle\b|StreamHandler|add_signal_handler|remove_signal_handler|"
    r"set_exception_handler|call_exception_handler|BaseHTTPRequestHandler|AbstractContextManager"
)


def part_of(path: Path) -> str:
    """The part of the project that a module belongs to: its package, or its own name at the top."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, in full."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            assert node.module is not None
            if node.module == "respraft":
                yield from (f"respraft.{alias.name}" for alias in node.names)
            else:
                yield node.module


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)
every_file = pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)


@every_module
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f"{part} is a new part; say in ALLOWED what it may import"
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("respraft.")}
    strangers = ours - ALLOWED[part] - {"__version__"}
    assert not strangers, f"{path.name} must not import {sorted(strangers)}"


@every_module
def test_what_is_sans_io_cannot_reach_the_outside_world(path: Path) -> None:
    if part_of(path) in SANS_IO or str(path.relative_to(SOURCE)) in SANS_IO_MODULES:
        reached = {name.split(".")[0] for name in imports_of(path)} & OUTSIDE_WORLD
        assert not reached, f"{path.name} must not import {sorted(reached)}: it comes in from outside"


@every_module
def test_modules_are_short_and_begin_with_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines <= MODULE_LINES_MAX, f"{lines} lines; split it by what changes together"
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "has no docstring: what it is, what it promises, what it leaves to others"


@every_file
def test_functions_are_short(path: Path) -> None:
    for function in functions_of(path):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{function.name} has {lines} lines"


@every_module
def test_public_functions_and_classes_say_what_they_promise(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            assert node.name.startswith("_") or ast.get_docstring(node), f"{node.name} has no docstring"


@every_file
def test_the_words_are_ours(path: Path) -> None:
    # Names only: a sentence may say "handler".
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "arg", None)
        if isinstance(name, str):
            assert not BANNED_WORDS.search(FOREIGN_WORDS.sub("", name)), f"{name}: say what it does"
    assert not BANNED_WORDS.search(path.stem), f"{path.name}: say what it does"


@every_file
def test_nothing_unfinished_and_no_one_elses_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for unwanted in ("TODO", "FIXME", "XXX", "/home/", "/root/", "/Users/"):
        assert unwanted not in text, f"{unwanted} in {path.name}"


def test_test_files_begin_with_what_they_prove() -> None:
    silent = [name_of(path) for path in TESTS if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert not silent
