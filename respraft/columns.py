"""Commands that are alike, by columns: so a batch of them lies in the log, and so it can be applied."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import overload


class Columns(Sequence[list[bytes]]):
    """Commands of one name with equally many arguments: all first arguments, all second ones, and so on.

    So a thousand `SET key value` are two lists and not a thousand. To who asks they are commands like others.
    """

    __slots__ = ("arguments", "name")

    def __init__(self, name: bytes, arguments: list[list[bytes]]) -> None:
        """Take the columns over: at least one, and all equally long."""
        self.name = name
        self.arguments = arguments

    def __len__(self) -> int:
        return len(self.arguments[0])

    @overload
    def __getitem__(self, place: int) -> list[bytes]: ...

    @overload
    def __getitem__(self, place: slice) -> list[list[bytes]]: ...

    def __getitem__(self, place: int | slice) -> list[bytes] | list[list[bytes]]:
        if isinstance(place, slice):
            return list(Columns(self.name, [column[place] for column in self.arguments]))
        return [self.name, *[column[place] for column in self.arguments]]

    def __iter__(self) -> Iterator[list[bytes]]:
        return map(list, zip(repeat(self.name), *self.arguments, strict=False))
