"""The explorer: a page on this machine that puts the next question to a live engine."""

from __future__ import annotations

import html
import os
import sys
import threading
import warnings
import weakref
import webbrowser
from typing import Mapping, Optional, Sequence, Tuple, Union

from lorascope import _native, _progress
from lorascope._studies import PromptSet, prompts_of


class Explorer:
    """A server of the explorer, on models of its own; made by :func:`explore`.

    It runs until :meth:`stop`, the end of its ``with`` block or of the process, or until nobody holds it any more. A notebook shows
    its page.
    """

    def __init__(self, native: _native.Explorer) -> None:
        #: What to open in a browser. It holds a random token: whoever has it can ask.
        self.url: str = native.url
        self._ended = threading.Event()
        # At the end of the process too: the server keeps a temporary folder.
        self._end = weakref.finalize(self, native.stop)

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._end.alive

    def stop(self) -> None:
        """Ends the server; questions that it is at end between two layers. A second time it does nothing."""
        self._end()
        self._ended.set()

    def wait(self) -> None:
        """Says the address and waits until ctrl-C, or :meth:`stop` in another thread; then the server has ended."""
        print(f"{self.url}\nopen this address in a browser; ctrl-C ends the server", file=sys.stderr)
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            self.stop()

    def __enter__(self) -> "Explorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Explorer({self.url})" if self.running else "Explorer(stopped)"

    def _repr_html_(self) -> str:
        if not self.running:
            return "<p>This explorer was stopped.</p>"
        url = html.escape(self.url)
        frame = f'<iframe src="{url}" width="100%" height="900" style="border: 0" allow="clipboard-write"></iframe>'
        return f'{frame}<p><a href="{url}" target="_blank" rel="noopener">Open the explorer in a tab of its own</a></p>'


def explore(
    run: Optional[Union[str, "os.PathLike[str]"]] = None,
    *,
    base: Optional[Union[str, "os.PathLike[str]"]] = None,
    adapters: Optional[Mapping[str, Union[str, "os.PathLike[str]"]]] = None,
    checkpoints: Optional[Mapping[str, Union[str, "os.PathLike[str]"]]] = None,
    controls: Sequence[str] = (),
    nf4: Optional[str] = None,
    prompts: Optional[PromptSet] = None,
    answers: Optional[Tuple[str, str]] = None,
    raw: bool = False,
    memory: Union[str, int] = "3GiB",
    host: str = "127.0.0.1",
    port: int = 0,
    open: bool = False,
    progress: Union[_progress.Progress, bool, None] = None,
) -> Explorer:
    """Starts the explorer (docs/explore.md), as ``lorascope explore`` does; it serves while Python goes on.

    The models are loaded for it alone: it edits them.

    Args:
        run: A run folder: its models, prompts, answers and edits are opened again. Without one, name a ``base``.
        base: As for :meth:`Model.load`; so are ``adapters``, ``checkpoints``, ``controls``, ``nf4``, ``memory`` and ``progress``.
        prompts: Prompts to choose from: a JSON file, or a list of prompts; by default fifteen about games.
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        host: Address to listen on; others than this machine's own let other machines in, with a warning.
        port: Port; 0 for one that is free.
        open: Open the page in a browser.

    Raises:
        Error: what can't be found or read; files that are not those that the run was made with; an address that can't be had.
        TypeError: a run folder together with what it says itself.
    """
    of_run = {"base": base, "adapters": adapters, "checkpoints": checkpoints, "controls": controls}
    of_run |= {"nf4": nf4, "prompts": prompts, "answers": answers, "raw": raw}
    given = [name for name, value in of_run.items() if value]
    if run is not None and given:
        raise TypeError(f"a run folder says itself what `{'`, `'.join(given)}` is; leave one of them out")
    text, is_file = (None, False) if prompts is None else prompts_of(prompts)
    native = _native.explore(
        None if run is None else os.fspath(run),
        None if base is None else os.fspath(base),
        [(name, os.fspath(path)) for name, path in (adapters or {}).items()],
        [(name, os.fspath(path)) for name, path in (checkpoints or {}).items()],
        [controls] if isinstance(controls, str) else list(controls),
        nf4,
        text,
        is_file,
        None if answers is None else (answers[0], answers[1]),
        raw,
        str(memory),
        host,
        port,
        _progress.resolve(progress),
    )
    explorer = Explorer(native)
    if not native.is_local:
        warnings.warn(f"{host} can be reached from other machines; whoever has the explorer's address can ask this one", stacklevel=2)
    if open:
        webbrowser.open(explorer.url)
    return explorer
