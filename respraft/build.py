"""How this respraft was built: compiled by mypyc or interpreted, from the same sources (`setup.py`)."""

from importlib.util import find_spec


def kind() -> str:
    """Return `compiled` or `interpreted`. All modules that can be compiled are, or none is."""
    spec = find_spec("respraft.resp.replies")
    return "interpreted" if spec is None or (spec.origin or "").endswith(".py") else "compiled"
