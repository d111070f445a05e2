"""The clocks of the machine, for the driver."""

import time

from respraft.node.interface import Clocks


class MachineClocks(Clocks):
    """The clocks of this machine. Not the loop's own: uvloop's stands still during a turn."""

    monotonic_s = staticmethod(time.monotonic)

    @staticmethod
    def wall_ms() -> int:
        return time.time_ns() // 1_000_000
