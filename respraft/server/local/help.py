"""The replies of CLIENT HELP and its like."""

from collections.abc import Sequence

from respraft.resp.replies import Reply, SimpleString


def help_reply(command: str, lines: Sequence[str]) -> Reply:
    """Return Redis's form of a help text: statuses, which redis-cli shows as plain lines.

    Args:
        command: The container, in upper-case.
        lines: A subcommand's syntax, or its explanation, indented by four.
    """
    return [
        SimpleString(line)
        for line in (
            f"{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            *lines,
            "HELP",
            "    Prints this help.",
        )
    ]
