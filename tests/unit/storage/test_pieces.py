"""A write in pieces: the mark is the first thing and the last, and nothing is left out."""

from respraft.storage.pieces import HALF_WAY, in_pieces


def test_the_mark_stands_around_everything() -> None:
    puts = {b"%d" % number: b"x" for number in range(5)} | {b"gone": None}
    first, *records, last = in_pieces(puts, [(b"a", b"b")], at_once=4)
    assert first == ({HALF_WAY: b""}, [(b"a", b"b")])
    assert [len(piece) for piece, _ in records] == [4, 2]
    assert {key: value for piece, _ in records for key, value in piece.items()} == puts
    assert not any(ranges for _, ranges in records), "they would empty what has just been put"
    assert last == ({HALF_WAY: None}, ())
