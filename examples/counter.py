"""A counter that three programs share, and that outlives any one of them.

Run each in a terminal of its own, and type numbers:

    .venv/bin/python examples/counter.py 1
    .venv/bin/python examples/counter.py 2
    .venv/bin/python examples/counter.py 3
"""

import sys

import respraft


class Counter(respraft.Machine):
    value = 0

    def apply(self, command: bytes, context: respraft.Context) -> int:
        self.value += int(command)
        return self.value


def main(node_id: int, port: int = 7100, directory: str = "data") -> None:
    members = [respraft.Member(i, peer=f"127.0.0.1:{port + i}") for i in (1, 2, 3)]
    configuration = respraft.Configuration(
        id=node_id, directory=f"{directory}/counter-{node_id}", members=members
    )
    with respraft.Node(Counter(), configuration) as node:
        for line in sys.stdin:
            try:
                print(node.write(line.encode()), flush=True)
            except respraft.Error as error:
                print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
