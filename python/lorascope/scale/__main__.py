"""``lorascope study FILE --ray ADDRESS`` arrives here."""

from __future__ import annotations

import argparse
import sys
from typing import Dict, List, Optional

import lorascope


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the study; the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m lorascope.scale", description="Carries out a study on a cluster of Ray.")
    parser.add_argument("study", nargs="?", metavar="FILE", help="the study file; without one, the study of the embedded model")
    parser.add_argument("--ray", default="local", metavar="ADDRESS", help="local (the default), auto, or HOST:6379")
    parser.add_argument("--out", required=True, metavar="DIR", help="the run folder")
    parser.add_argument("--base", metavar="BASE", help="use this base instead of the file's")
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=PATH", help="use these adapters instead of the file's")
    parser.add_argument("--seed", type=int, help="use this seed instead of the file's")
    parser.add_argument("--memory", default="3GiB", metavar="SIZE", help="memory for packed weights on each node")
    given = parser.parse_args(arguments)
    adapters: Dict[str, str] = {}
    for pair in given.adapter:
        name, found, path = pair.partition("=")
        if not found:
            parser.error(f"--adapter `{pair}` must be NAME=PATH")
        adapters[name] = path
    try:
        result = lorascope.study(
            given.study,
            base=given.base,
            adapters=adapters or None,
            out=given.out,
            seed=given.seed,
            memory=given.memory,
            ray=given.ray,
        )
    except lorascope.Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    for note in result.notes:
        print(note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
