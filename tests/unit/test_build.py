"""What is compiled can be, and the two ways to run respraft can be told apart.

mypyc accepts most of Python, and says so where it does not. These are the things that it lets pass and that
then fail, or are different, when the server runs.
"""

import ast
import importlib
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from respraft import build

PROJECT: Final = Path(__file__).parents[2]
COMPILED: Final[tuple[str, ...]] = runpy.run_path(str(PROJECT / "setup.py"))["MODULES"]
INTERPRETED: Final = sorted(
    name
    for path in (PROJECT / "respraft").rglob("*.py")
    if (name := str(path.relative_to(PROJECT))) not in COMPILED
)


def classes_of(name: str) -> Iterator[ast.ClassDef]:
    for node in ast.walk(ast.parse((PROJECT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node


def bases_of(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base).partition("[")[0] for base in node.bases}


@pytest.mark.parametrize("name", COMPILED)
def test_what_is_compiled_defines_no_structs(name: str) -> None:
    for node in classes_of(name):
        assert "msgspec.Struct" not in bases_of(node), f"{node.name}: mypyc drops the arguments of structs"
        slots = [one for one in node.decorator_list if "slots=True" in ast.unparse(one)]
        generic = "Generic" in bases_of(node)
        assert not (slots and generic), f"{node.name}: mypyc cannot make a generic dataclass with slots"


@pytest.mark.parametrize("name", INTERPRETED)
def test_no_interpreted_class_has_a_compiled_base(name: str) -> None:
    homes = {
        alias.asname or alias.name: node.module.replace(".", "/") + ".py"
        for node in ast.walk(ast.parse((PROJECT / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    for node in classes_of(name):
        wrong = [base for base in bases_of(node) if homes.get(base) in COMPILED]
        assert not wrong, (
            f"{node.name} cannot be made from {wrong}: setup.py has that module compiled, not this"
        )


def test_all_listed_modules_are_compiled_or_none_is() -> None:
    compiled = set()
    for name in COMPILED:
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        assert module.__file__ is not None
        compiled.add(not module.__file__.endswith(".py"))
    assert compiled == {build.kind() == "compiled"}
