"""What `crates/python` makes. Users go through the package's own classes and functions."""

from typing import Any, Callable, Dict, List, Optional, Tuple

__version__: str

class Error(Exception):
    """What lorascope refuses or can't do: what is wrong, where, and what to do."""

class Buffer:
    """A block of 32-bit floats with a shape. ``numpy.asarray(buffer)`` is a view of it."""

    @property
    def __array_interface__(self) -> Dict[str, Any]: ...

class Figure:
    """A figure of a report; it shows itself in notebooks."""

    @property
    def name(self) -> str:
        """Its name, as in the run folder."""
    @property
    def title(self) -> str:
        """Its title."""
    @property
    def caption(self) -> str:
        """What it shows and how to read it."""
    def render(self, format: str) -> bytes:
        """The figure as a file: ``svg``, ``png``, ``pdf``, or its numbers as ``csv``."""
    def _repr_svg_(self) -> str: ...

class Table:
    @property
    def name(self) -> str: ...
    @property
    def doc(self) -> str: ...
    def columns(self) -> List[Tuple[str, str, str, str]]: ...
    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...

class Result:
    def tables(self) -> List[Table]: ...
    def sections(self) -> List[Dict[str, Any]]: ...
    def warnings(self) -> List[str]: ...
    def verdicts(self) -> List[Tuple[str, str, str, str, str, str]]: ...
    def notes(self) -> List[str]: ...
    def html(self) -> str: ...

class Model:
    @staticmethod
    def load(
        base: str,
        adapters: List[Tuple[str, str]],
        checkpoints: List[Tuple[str, str]],
        controls: List[str],
        nf4: Optional[str],
        memory: str,
        seed: int,
        progress: Optional[Callable[[str, int, int], None]],
    ) -> "Model": ...
    def spec(self) -> Dict[str, Any]: ...
    def models(self) -> List[Tuple[str, Optional[str]]]: ...
    def hook_names(self, which: int) -> List[str]: ...
    def hook_shape(self, name: str, which: int) -> Tuple[Optional[List[int]], int]: ...
    def tokenize(self, text: str) -> List[int]: ...
    def chat(self, messages: List[Tuple[str, str]]) -> Tuple[str, List[int]]: ...
    def decode(self, ids: List[int]) -> str: ...
    def token_text(self, id: int) -> str: ...
    def token_id(self, token: str) -> Optional[int]: ...
    def has_chat_template(self) -> bool: ...
    def run(
        self,
        groups: List[List[List[int]]],
        which: int,
        names: List[str],
        interventions: List[Dict[str, Any]],
        functions: List[Tuple[str, Callable[[Any, str], None]]],
        logits: str,
    ) -> List[Tuple[Optional[Buffer], List[Buffer]]]: ...
    def gradients(
        self,
        prompts: List[List[int]],
        which: int,
        names: List[str],
        interventions: List[Dict[str, Any]],
        logits: str,
        loss: Callable[[Any], bytes],
    ) -> Tuple[Buffer, List[Buffer], List[Buffer]]: ...
    def adapter_files(self, which: int, blocks: Optional[List[str]]) -> Tuple[str, bytes]: ...

def analyses() -> List[Dict[str, Any]]: ...
def analyse(
    model: Model,
    name: str,
    prompts: Optional[str],
    is_file: bool,
    settings: str,
    answers: Optional[Tuple[str, str]],
    raw: bool,
    seed: int,
    out: Optional[str],
    progress: Optional[Callable[[str, int, int], None]],
) -> Result: ...
def study(
    path: Optional[str],
    base: Optional[str],
    adapters: List[Tuple[str, str]],
    out: Optional[str],
    seed: Optional[int],
    memory: str,
    progress: Optional[Callable[[str, int, int], None]],
    cluster: Optional[Any],
) -> Result: ...

class Explorer:
    @property
    def url(self) -> str: ...
    @property
    def is_local(self) -> bool: ...
    def stop(self) -> None: ...

def explore(
    run: Optional[str],
    base: Optional[str],
    adapters: List[Tuple[str, str]],
    checkpoints: List[Tuple[str, str]],
    controls: List[str],
    nf4: Optional[str],
    prompts: Optional[str],
    is_file: bool,
    answers: Optional[Tuple[str, str]],
    raw: bool,
    memory: str,
    host: str,
    port: int,
    progress: Optional[Callable[[str, int, int], None]],
) -> Explorer: ...
def training_settings() -> Tuple[str, List[Tuple[str, str]]]: ...
def train(
    base: str,
    settings: str,
    raw: bool,
    nf4: Optional[str],
    seed: int,
    memory: str,
    out: str,
    progress: Optional[Callable[[str, int, int], None]],
) -> Result: ...

class Node:
    def __init__(self, study: str, place: str, fetch: Callable[[str], Optional[bytes]]) -> None: ...
    def identity(self) -> Tuple[str, str]: ...
    def carry_out(self, analysis: str, units: List[List[str]]) -> List[Tuple[str, bytes]]: ...

def part_of(folder: str, identity: str, name: str) -> Optional[bytes]: ...
def is_here(path: str) -> bool: ...
def game_prompts(design: str, factors: List[Tuple[str, str]]) -> str: ...
def set_device(device: str) -> Optional[str]:
    """Chooses who does the large products, before anything is computed: cpu, cuda, vulkan, metal or dx12, with a number where there are
    several (cuda:1). Gives back its name, None for the processor."""
def set_threads(threads: Optional[int] = None) -> int:
    """Sets the number of threads of all arithmetic, before anything is computed; gives back how many there are."""
