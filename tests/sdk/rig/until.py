"""Waiting for a condition, the only way in which a test lets time pass."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], within: float = 10.0, what: str = "the condition") -> T:
    """Asks until the answer is true, and returns it; the interval only bounds how often."""
    deadline = time.monotonic() + within
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {within} s")
        time.sleep(0.02)
