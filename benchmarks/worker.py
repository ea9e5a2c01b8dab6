"""A task of a benchmark in a process of its own: `python -m benchmarks.worker`."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.catalog import BENCHMARKS
from benchmarks.definition import Job


def main(result: str, name: str, task: str, job_json: str) -> None:
    """Run a task and write what it returns to the file `result`, as JSON.

    Args:
        name: name of the benchmark.
        task: "prepare", "check", or the index of a contender.
        job_json: a `Job` as JSON.
    """
    fields = json.loads(job_json)
    benchmark, job = BENCHMARKS[name], Job(**{**fields, "folder": Path(fields["folder"])})
    _limit_cores(job.threads)
    value: object = None
    if task == "prepare":
        assert benchmark.prepare is not None
        benchmark.prepare(job)
    elif task == "check":
        assert benchmark.check is not None
        value = benchmark.check(job)
    else:
        value = asdict(benchmark.contenders[int(task)].run(job))
    Path(result).write_text(json.dumps(value))


def _limit_cores(number: int) -> None:
    """Bind this process to so many cores, whatever a library's own idea of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


if __name__ == "__main__":
    main(*sys.argv[1:])
