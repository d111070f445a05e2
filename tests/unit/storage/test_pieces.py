"""A write in pieces: the mark is the first thing and the last, and nothing is left out."""

from respraft.storage.pieces import BYTES_AT_ONCE, HALF_WAY, Step, in_pieces


def test_the_mark_stands_around_everything() -> None:
    rows: list[tuple[list[bytes], list[bytes | None]]]
    rows = [([b"1", b"2", b"3", b"4", b"5"], [b"x", b"x", None, b"x", b"x"]), ([b"6"], [b"y"])]
    first, *records, last = in_pieces(Step(iter(rows), [(b"a", b"b")], 6, 12), at_once=4)
    assert first == ((HALF_WAY,), (b"",), [(b"a", b"b")])
    assert records == [(rows[0][0][:4], rows[0][1][:4], ()), ([b"5"], [b"x"], ()), (*rows[1], ())]
    assert last == ((HALF_WAY,), (None,), ())


def test_a_piece_is_bounded_by_rows_and_by_bytes() -> None:
    sizes = [10, 10, 10, 10, BYTES_AT_ONCE // 2, BYTES_AT_ONCE // 2, 10, 3 * BYTES_AT_ONCE, 10]
    rows = [b"%d" % place for place in range(len(sizes))], [bytes(size) for size in sizes]
    _, *pieces, _ = in_pieces(Step(iter([rows]), (), len(sizes), sum(sizes)), at_once=3)
    assert [[len(value or b"") for value in values] for _, values, _ in pieces] == [
        [10, 10, 10],
        [10, BYTES_AT_ONCE // 2],
        [BYTES_AT_ONCE // 2, 10],
        [3 * BYTES_AT_ONCE],
        [10],
    ]
    assert [key for keys, _, _ in pieces for key in keys] == rows[0]
