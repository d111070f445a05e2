"""A thread that works when it is told to, or when somebody waits for what it has to do."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class _Task(Future[Any]):
    def __init__(self, thread: "ByHand", function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self._thread = thread
        self._function = function
        self._arguments = arguments

    def result(self, timeout: float | None = None) -> Any:
        while not self.done():
            self._thread.step()
        return super().result(timeout)

    def run(self) -> None:
        try:
            self.set_result(self._function(*self._arguments))
        except Exception as error:
            self.set_exception(error)


class ByHand(Executor):
    """Does nothing before `step`."""

    def __init__(self) -> None:
        self.tasks: list[_Task] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        assert not named
        self.tasks.append(_Task(self, function, arguments))
        return self.tasks[-1]

    def step(self) -> None:
        """Do what was asked for first."""
        self.tasks.pop(0).run()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while self.tasks:
            self.step()
