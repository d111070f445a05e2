"""A write in pieces: the mark is the first thing and the last, and nothing is left out."""

from respraft.storage.pieces import HALF_WAY, Step, in_pieces


def test_the_mark_stands_around_everything() -> None:
    rows: list[tuple[list[bytes], list[bytes | None]]]
    rows = [([b"1", b"2", b"3", b"4", b"5"], [b"x", b"x", None, b"x", b"x"]), ([b"6"], [b"y"])]
    first, *records, last = in_pieces(Step(iter(rows), [(b"a", b"b")], 6, 12), at_once=4)
    assert first == ((HALF_WAY,), (b"",), [(b"a", b"b")])
    assert records == [(rows[0][0][:4], rows[0][1][:4], ()), ([b"5"], [b"x"], ()), (*rows[1], ())]
    assert last == ((HALF_WAY,), (None,), ())
