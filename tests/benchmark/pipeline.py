"""A load generator for the Redis protocol that waits for whole pipelines.

Each client sends P commands in one write, waits for all P replies, and sends the next P. A latency is the
time from that write to the last reply. redis-benchmark's is the time to the first reply of a pipeline, which
hides the wait for the rest.

`python -m tests.benchmark.pipeline --port 7001 --clients 50 --pipeline 16` prints one JSON line.
"""

import argparse
import random
import time

import hiredis

from tests.benchmark.generator import Connection, Run, generate, options_parser


class PipelineConnection(Connection):
    """One client of a Redis server."""

    def __init__(self, run: Run, options: argparse.Namespace) -> None:
        super().__init__(run, options)
        self._reader = hiredis.Reader()
        self._random = random.Random()
        self._expected = 0
        self._left = 0
        self._sent_at = 0.0
        key = b"key:%012d"
        if options.command == "SET":
            self._request = b"*3\r\n$3\r\nSET\r\n$16\r\n" + key + b"\r\n" + _bulk(b"x" * options.value_bytes)
        else:
            self._request = b"*2\r\n$3\r\nGET\r\n$16\r\n" + key + b"\r\n"

    def begin(self) -> None:
        self._expected = self._left = self.run.take(self.options.pipeline)
        if not self._left:
            return
        draw, keys, request = self._random.random, self.options.keys, self._request
        pipeline = b"".join([request % int(draw() * keys) for _ in range(self._left)])
        self._sent_at = time.perf_counter()
        self.transport.write(pipeline)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            # A SET answers OK, and every key was written before a GET.
            if reply is None or isinstance(reply, hiredis.ReplyError):
                self.run.fail(f"{self.options.command} was answered {reply!r}")
                return
            self._left -= 1
        if not self._left:
            self.run.complete(self._expected, time.perf_counter() - self._sent_at)
            self.begin()


def main() -> None:
    """Send the load that the command line describes."""
    generate(options_parser(__doc__).parse_args(), PipelineConnection)


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


if __name__ == "__main__":
    main()
