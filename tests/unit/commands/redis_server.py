"""A real redis-server to compare with: a process of its own, on a socket file, that keeps nothing."""

import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

VERSION = "7.0."
"""The line of Redis whose replies are the reference."""


class RedisServer:
    """Runs one command at a time and returns the reply's bytes as they came."""

    def __init__(self, directory: Path) -> None:
        """Start the server and connect to it; `directory` is short enough for a socket's path."""
        path = directory / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            ["redis-server", *options, "--dir", str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "ready to accept connections" in line.lower():
                break
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._replies = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._replies.close()
        self._socket.close()
        self._process.kill()
        self._process.communicate()

    def run(self, args: list[bytes]) -> bytes:
        """Send one command and return its whole reply."""
        words = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in args)
        self._socket.sendall(b"*%d\r\n%b" % (len(args), words))
        return self._reply()

    def version(self) -> str:
        """Return the server's version."""
        info = self.run([b"INFO", b"server"]).decode()
        return info.partition("redis_version:")[2].partition("\r\n")[0]

    def _reply(self) -> bytes:
        line = self._replies.readline()
        kind, length = line[:1], line[1:-2]
        if kind == b"$" and length != b"-1":
            return line + self._replies.read(int(length) + 2)
        if kind in b"*~%" and length != b"-1":
            elements = int(length) * (2 if kind == b"%" else 1)
            return line + b"".join(self._reply() for _ in range(elements))
        return line
