"""CONFIG GET."""

from tests.unit.server.local.fakes import FakeServer


def test_settings_come_from_the_configuration() -> None:
    assert FakeServer().run(b"CONFIG GET port bind maxclients timeout dir proto-max-bulk-len") == {
        b"bind": b"127.0.0.1",
        b"dir": b"/data/node-1",
        b"maxclients": b"500",
        b"port": b"7001",
        b"proto-max-bulk-len": b"67108864",
        b"timeout": b"60",
    }


def test_what_redis_benchmark_asks_for() -> None:
    server = FakeServer()
    assert server.wire(b"CONFIG GET save") == b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n"
    assert server.wire(b"CONFIG GET appendonly") == b"*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n"


def test_patterns() -> None:
    server = FakeServer()
    assert server.run(b"CONFIG GET MAXM*") == {b"maxmemory": b"0", b"maxmemory-policy": b"noeviction"}
    assert server.run(b"CONFIG GET nope") == {}
    everything = server.run(b"CONFIG GET *")
    assert isinstance(everything, dict)
    assert list(everything) == sorted(everything)
