"""Gathering: when to let go what has gathered, so that clients travel together.

Clients that wait for one batch send their next commands when it is answered, a few at a time. If the
first of them set off at once, they make a small batch, the others the next one, and from then on two
groups of clients alternate: twice the entries, fsyncs and messages for the same commands. So whoever
was answered just now is waited for, for about as long as it takes a client to read a reply and
write a command:

* At most `HOLD_MS`, or longer where many are waited for, and only until as many have come as are
  expected: those who were answered and those who gathered meanwhile. One client alone is never held.
* Where clients do not come back so soon, holding only costs. After a hold in vain the next one is
  left out, after two in a row the next three, and so on up to `SKIP_MAX`.

Under load this is what makes a batch as large as the number of clients; without load it does nothing.
"""

from typing import Final

HOLD_MS: Final = 3.0
"""Longest time that commands are held for others: fifty clients of one busy process need about so long to
read their replies and write again. With 1 ms most holds were in vain, and they got 10 to 15 % less done."""

HOLD_PER_CLIENT_MS: Final = 0.04
"""What each client that is waited for adds to a hold, once that is more. With 256 clients on busy cores 3 ms
ended most holds in vain, and batches held 155 of them; now 220 to 240, and a tenth more is done."""

HOLD_MAX_MS: Final = 20.0
"""However many they are: a hold in vain is what a client waits for nothing."""

SKIP_MAX: Final = 63
"""Batches that go without a hold after many in vain: what it costs to find out again is then 2 %."""


class Gathering:
    """Decides for one queue, batch by batch. Pure; times are those of the driver's turns."""

    def __init__(self) -> None:
        """Begin without a reason to hold anything."""
        self._expected = 0
        self._until_ms = 0.0  # 0: nothing is held.
        self._skips = 0  # How many batches go without a hold after one in vain.
        self._skip = 0  # How many of them are left.

    def answered(self, count: int, gathered: int, now_ms: float) -> None:
        """A batch of `count` clients was answered, and `gathered` others wait already."""
        self._expected = count + gathered
        if self._skip:
            self._skip -= 1
            self._until_ms = 0.0
        else:
            hold_ms = min(max(HOLD_MS, HOLD_PER_CLIENT_MS * self._expected), HOLD_MAX_MS)
            self._until_ms = now_ms + hold_ms

    def lacks(self, gathered: int) -> bool:
        """Tell whether there is a hold, however long yet, and too few have gathered to end it."""
        # Some clients think first: an eighth of them is not waited for.
        return self._until_ms > 0 and gathered < self._expected - self._expected // 8

    def holds(self, gathered: int, now_ms: float) -> bool:
        """Tell whether the `gathered` clients should wait for more. Call it when they could go otherwise."""
        if not self._until_ms:
            return False
        if not self.lacks(gathered):
            self._skips = 0
        elif now_ms < self._until_ms:
            return True
        else:
            self._skips = min(2 * self._skips + 1, SKIP_MAX)
            self._skip = self._skips
        self._until_ms = 0.0
        return False
