"""Refusals: the code words that clients branch on, and Redis 7.0's texts to the letter."""

import pytest

from respraft.resp import errors
from respraft.resp.errors import ReplyError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.no_leader(), "CLUSTERDOWN"),
        (errors.outcome_unknown(), "TIMEOUT"),
        (errors.reply_lost(), "TIMEOUT"),
        (errors.busy(), "BUSY"),
        (errors.loading(), "LOADING"),
        (errors.no_cluster("removed from the cluster"), "NOCLUSTER"),
        (errors.wrong_type(), "WRONGTYPE"),
    ],
)
def test_the_code_says_what_became_of_the_write(error: ReplyError, code: str) -> None:
    assert error.code == code
    assert str(error) == f"{code} {error.text}"


def test_an_unknown_outcome_and_a_lost_reply_begin_differently() -> None:
    assert errors.outcome_unknown().text.startswith("outcome unknown")
    assert errors.reply_lost().text.startswith("applied, reply lost")


def test_errors_that_read_the_same_are_equal() -> None:
    assert errors.no_leader() == ReplyError("CLUSTERDOWN", "No raft leader")
    assert hash(errors.no_leader()) == hash(ReplyError("CLUSTERDOWN", "No raft leader"))
    assert errors.no_leader() is not errors.no_leader()
    assert errors.syntax_error() != errors.not_an_integer()
    assert errors.syntax_error() != "ERR syntax error"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.wrong_type(), "WRONGTYPE Operation against a key holding the wrong kind of value"),
        (errors.wrong_arity("client|kill"), "ERR wrong number of arguments for 'client|kill' command"),
        (errors.unknown_subcommand("CLIENT", b"nO"), "ERR unknown subcommand 'nO'. Try CLIENT HELP."),
        (errors.syntax_error(), "ERR syntax error"),
        (errors.not_an_integer(), "ERR value is not an integer or out of range"),
        (errors.not_a_float(), "ERR value is not a valid float"),
        (errors.would_overflow(), "ERR increment or decrement would overflow"),
        (errors.no_such_key(), "ERR no such key"),
        (errors.invalid_expire_time("set"), "ERR invalid expire time in 'set' command"),
        (errors.string_too_long(), "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        (errors.database_out_of_range(), "ERR DB index is out of range"),
    ],
)
def test_texts_are_those_of_redis(error: ReplyError, line: str) -> None:
    assert str(error) == line


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        (b"nope", [], "unknown command 'nope', with args beginning with: "),
        (b"Nope", [b"a", b"b c"], "unknown command 'Nope', with args beginning with: 'a' 'b c' "),
        (b"n\0ope", [b"a\0b"], "unknown command 'n', with args beginning with: 'a' "),
        (b"n" * 200, [], f"unknown command '{'n' * 128}', with args beginning with: "),
        (
            b"nope",
            [b"a" * 100, b"b" * 100, b"c"],
            f"unknown command 'nope', with args beginning with: '{'a' * 100}' '{'b' * 25}' ",
        ),
    ],
)
def test_an_unknown_command_is_quoted_in_part(name: bytes, arguments: list[bytes], line: str) -> None:
    assert errors.unknown_command(name, arguments) == ReplyError("ERR", line)


def test_quoted_bytes_that_are_no_text_survive() -> None:
    text = errors.unknown_command(b"\xff\xfe", []).text
    assert text.encode("utf-8", "surrogateescape").startswith(b"unknown command '\xff\xfe'")
