"""A leaderboard with Redis commands of its own, on three nodes in one program.

    .venv/bin/python examples/leaderboard.py
    redis-cli -p 7001 BOARD.ADD chess ada 30
    redis-cli -p 7002 BOARD.ADD chess bob 20
    redis-cli -p 7003 BOARD.TOP chess 10

In earnest, each node runs on a machine of its own.
"""

import asyncio
import contextlib

import respraft


class Leaderboard(respraft.Machine):
    """Points by player, for each board."""

    def __init__(self) -> None:
        self.boards: dict[str, dict[str, int]] = {}

    @respraft.command("BOARD.ADD", arity=4, kind="write", keys=1)
    def add(self, context: respraft.Context, board: str, player: str, points: int) -> int:
        """Give a player points; returns the new total."""
        if points < 0:
            raise respraft.CommandError("points cannot be taken away")  # Before anything has changed.
        players = self.boards.setdefault(board, {})
        players[player] = players.get(player, 0) + points
        return players[player]

    @respraft.command("BOARD.TOP", arity=-2, kind="read", keys=1)
    def top(self, context: respraft.Context, board: str, count: int = 3) -> list[tuple[str, int]]:
        """Return the best players of a board with their points."""
        players = self.boards.get(board, {})
        return sorted(players.items(), key=lambda each: (-each[1], each[0]))[:count]


async def main(port: int = 7001, directory: str = "data") -> None:
    members = [
        respraft.Member(i, peer=f"127.0.0.1:{port + 99 + i}", client=f"127.0.0.1:{port - 1 + i}")
        for i in (1, 2, 3)
    ]
    async with contextlib.AsyncExitStack() as nodes:
        for member in members:
            configuration = respraft.Configuration(
                id=member.id, directory=f"{directory}/leaderboard-{member.id}", members=members
            )
            await nodes.enter_async_context(respraft.AsyncNode(Leaderboard(), configuration))
        print(f"redis-cli -p {port} BOARD.ADD chess ada 30", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
