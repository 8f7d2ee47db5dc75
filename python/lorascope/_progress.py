"""Progress where somebody looks at it: on one line of a terminal, as a bar in a notebook."""

from __future__ import annotations

import html
import sys
from typing import Any, Callable, Dict, Optional, Union

Progress = Callable[[str, int, int], None]


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class Line:
    """Writes each step over the one before, and takes the line away when the step is over."""

    def __init__(self) -> None:
        self._length = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        text = "" if done >= total else f"{what}: {100 * done // total}%"
        sys.stderr.write("\r" + text.ljust(self._length) + ("\r" if not text else ""))
        sys.stderr.flush()
        self._length = len(text)


class Bar:
    """A bar below the cell, the same for all steps; when a step is over it is empty."""

    def __init__(self) -> None:
        self._shown: Any = None

    def __call__(self, what: str, done: int, total: int) -> None:
        from IPython.display import display

        content = _bar(what, done, total)
        if self._shown is None:
            self._shown = display(content, raw=True, display_id=True)
        else:
            self._shown.update(content, raw=True)


def _bar(what: str, done: int, total: int) -> Dict[str, str]:
    if done >= total:
        return {"text/html": "", "text/plain": ""}
    bar = f'<progress value="{done}" max="{total}" style="width: 20em"></progress>'
    told = f"{what}: {100 * done // total}%"
    return {"text/html": f"{bar} {html.escape(told)}", "text/plain": told}


def resolve(progress: Union[Progress, bool, None]) -> Optional[Progress]:
    """The function to be told: the one given, a line or bar where it is wanted or watched, or none."""
    if callable(progress):
        return progress
    if progress is None:
        progress = sys.stderr.isatty() or _in_notebook()
    if not progress:
        return None
    return Bar() if _in_notebook() else Line()
