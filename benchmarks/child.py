"""One side of one part in a process of its own: `python -m benchmarks.child`, by compare."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.part import Job
from benchmarks.parts import PARTS


def main(name: str, side: str, job: str, result: str) -> None:
    """Run side number `side` of a part, or its "prepare" or "check"; write what it returns.

    Args:
        job: a `Job` in JSON.
        result: file to write, in JSON.
    """
    fields = json.loads(job)
    part, asked = PARTS[name], Job(**{**fields, "folder": Path(fields["folder"])})
    _keep_to(asked.threads)
    value: object = None
    if side == "prepare":
        assert part.prepare is not None
        part.prepare(asked)
    elif side == "check":
        assert part.check is not None
        value = part.check(asked)
    else:
        value = asdict(part.sides[int(side)].run(asked))
    Path(result).write_text(json.dumps(value))


def _keep_to(cores: int) -> None:
    """As many cores as the part allows, whatever a library's own idea of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


if __name__ == "__main__":
    main(*sys.argv[1:])
