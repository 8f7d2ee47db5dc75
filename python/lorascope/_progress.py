"""Progress on one line of standard error, where somebody looks at it."""

from __future__ import annotations

import sys
from typing import Callable, Optional, Union

Progress = Callable[[str, int, int], None]


def _is_watched() -> bool:
    """Whether standard error is a terminal or a notebook's output."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or hasattr(shell, "kernel")


class Line:
    """Writes each step over the one before, and takes the line away when the step is over."""

    def __init__(self) -> None:
        self._length = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        text = "" if done >= total else f"{what}: {100 * done // total}%"
        sys.stderr.write("\r" + text.ljust(self._length) + ("\r" if not text else ""))
        sys.stderr.flush()
        self._length = len(text)


def resolve(progress: Union[Progress, bool, None]) -> Optional[Progress]:
    """The function to be told: the one given, the line where it is wanted or watched, or none."""
    if callable(progress):
        return progress
    wanted = _is_watched() if progress is None else progress
    return Line() if wanted else None
