"""What is compiled, and that the two ways to run respraft can be told apart."""

import ast
import importlib
import runpy
from pathlib import Path

import pytest

from respraft import build

PROJECT = Path(__file__).parents[2]
MODULES: tuple[str, ...] = runpy.run_path(str(PROJECT / "setup.py"))["MODULES"]


@pytest.mark.parametrize("name", MODULES)
def test_what_is_compiled_can_be(name: str) -> None:
    """A module that was renamed, or that got a struct, would end or change the compiled build unnoticed."""
    tree = ast.parse((PROJECT / name).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            assert "msgspec.Struct" not in bases, f"{node.name}: mypyc drops the arguments of struct classes"


def test_all_listed_modules_are_compiled_or_none_is() -> None:
    compiled = set()
    for name in MODULES:
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        assert module.__file__ is not None
        compiled.add(not module.__file__.endswith(".py"))
    assert compiled == {build.kind() == "compiled"}
