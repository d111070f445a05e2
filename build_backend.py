"""How wheels of respraft are built: with compiled modules where that is possible, else without.

`pip install .` comes here (PEP 517). Where a C compiler and Python's headers are found, the modules that
`setup.py` lists are compiled by mypyc: same behaviour, an eighth to a quarter less processor time. If that
fails, for whatever reason, the wheel is built without; `respraft --version` tells which it is.

An editable install, which developers and the tests use, is never compiled: what runs is always the source.

RESPRAFT_COMPILE=0 does not try; RESPRAFT_COMPILE=1 fails where it cannot be done.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

COMPILER = "mypy[mypyc]>=1.15"


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Return what must be there to build: mypyc only if it can be of use."""
    needed: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    return [*needed, COMPILER] if _obstacle() is None else needed


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build a compiled wheel if possible, else a plain one; return its name."""
    obstacle = _obstacle()
    if obstacle is None:
        name, status = _build_compiled(Path(wheel_directory))
        if name is not None:
            return name
        obstacle = f"the compiler ended with {status}"
    if os.environ.get("RESPRAFT_COMPILE") == "1":
        raise SystemExit(f"respraft cannot be compiled: {obstacle}")
    print(f"respraft is installed without compiled modules: {obstacle}", file=sys.stderr)
    plain: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return plain


def _build_compiled(wheels: Path) -> tuple[str | None, int]:
    """Return the name of the wheel, if there is one, and the exit status of its build.

    In a process of its own, since a compiler that crashes must not be the end of the installation, and in a
    new directory, so that nothing of an older build gets in.
    """
    known = set(wheels.glob("*.whl"))
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="build") as path:
        scratch = os.path.relpath(path)  # setuptools takes no other.
        build = ("build", "--build-base", f"{scratch}/base", "bdist_wheel", "--dist-dir", str(wheels))
        environment = {**os.environ, "RESPRAFT_COMPILE_IN": f"{scratch}/c"}
        done = subprocess.run([sys.executable, "setup.py", "--quiet", *build], env=environment, check=False)
    made = set(wheels.glob("*.whl")) - known
    return (made.pop().name if done.returncode == 0 and made else None), done.returncode


def _obstacle() -> str | None:
    """Return why nothing can be compiled here, if so."""
    if os.environ.get("RESPRAFT_COMPILE") == "0":
        return "RESPRAFT_COMPILE is 0"
    if sys.implementation.name != "cpython":
        return f"mypyc compiles for CPython, and this is {sys.implementation.name}"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "Python's headers are missing (on Debian: apt-get install python3-dev)"
    return None
