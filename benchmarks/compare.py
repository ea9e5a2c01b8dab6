"""Run a benchmark: its contenders take turns, each in a process of its own, for several rounds."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.definition import Benchmark, Contender, Job, Measurement, Size
from benchmarks.hardware import describe_packages, is_installed
from benchmarks.results import Row
from benchmarks.run_process import run_module
from kitsjax.cores import cores
from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.process_pool import THREAD_VARIABLES

# Numeric libraries read these when they are loaded.
_THREAD_VARIABLES = (
    *THREAD_VARIABLES, "nnUNet_n_proc_DA", "nnUNet_def_n_proc",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """How the benchmarks of a run are measured.

    Attributes:
        work: folder of the inputs and outputs, with a folder for each benchmark.
        logs: folder of what the processes print.
        size: size of the inputs.
        platform: "cpu" or "gpu", which decides the goals.
        rounds: number of times that the contenders take turns.
    """

    work: Path
    logs: Path
    size: Size
    platform: str
    rounds: int


def run_benchmark(benchmark: Benchmark, options: Options) -> list[Row]:
    """Measure every variant of a benchmark, and print each measurement as it comes.

    The contenders alternate, so that a slow moment of the machine hits all of them.

    Raises:
        InputError: The inputs cannot be made, or kitsjax itself failed.
    """
    folder = options.work / benchmark.name / options.size
    job = Job(folder, options.size, "", benchmark.threads or cores())
    options.logs.mkdir(parents=True, exist_ok=True)
    _prepare(benchmark, job, options.logs)
    return [
        _run_variant(benchmark, replace(job, variant=variant), options)
        for variant in benchmark.variants
    ]


def _prepare(benchmark: Benchmark, job: Job, logs: Path) -> None:
    """Make the inputs, unless this version of the benchmarks has already made them."""
    stamp = job.folder / "prepared.json"
    made_by = {"sources": _digest(), "packages": describe_packages(), "threads": job.threads}
    if job.folder.exists() and any(job.folder.iterdir()):
        if not stamp.exists():
            raise InputError(
                f"{job.folder}: not made by the benchmark; remove it, or choose another --work"
            )
        if json.loads(stamp.read_text()) == made_by:
            return
        # Another version made it, or preparing was interrupted.
        shutil.rmtree(job.folder)
    write_text(stamp, "null\n")
    if benchmark.prepare is not None:
        print(f"{benchmark.name}: preparing", flush=True)
        _call(benchmark, "prepare", job, logs)
    write_text(stamp, json.dumps(made_by) + "\n")


def _digest() -> str:
    """Hash the benchmarks' own code, which decides what the inputs are."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _run_variant(benchmark: Benchmark, job: Job, options: Options) -> Row:
    contenders = benchmark.contenders_in(job.variant)
    row = Row(
        benchmark.name, job.variant, benchmark.work, benchmark.goal.get(options.platform),
        contenders[1].name if contenders[1:] else "", job.threads,
    )  # fmt: skip
    for round_number in range(1, options.rounds + 1):
        for contender in contenders:
            name = contender.name
            if name in row.failures:
                continue
            try:
                found = _run_contender(benchmark, contender, job, options.logs)
            except InputError as error:
                if contender is contenders[0]:
                    raise
                # Without it the rounds would pair measurements that do not belong together.
                row.measurements.pop(name, None)
                row.failures[name] = str(error)
                print(f"{row.title}: {name} left out: {error}", flush=True)
                continue
            row.measurements.setdefault(name, []).append(found)
            print(
                f"{row.title}: {name}, round {round_number} of {options.rounds}: "
                f"{found.seconds_per_unit:.4g} s",
                flush=True,
            )
    if benchmark.check is not None and not row.failures:
        row.checks.update(_call(benchmark, "check", job, options.logs))
    return row


def _run_contender(benchmark: Benchmark, contender: Contender, job: Job, logs: Path) -> Measurement:
    missing = [name for name in contender.needs if not is_installed(name)]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed; the extra [bench] has it")
    task = str(benchmark.contenders.index(contender))
    return Measurement(**_call(benchmark, task, job, logs, contender.variables))


def _call(
    benchmark: Benchmark, task: str, job: Job, logs: Path, own: Mapping[str, str] | None = None
) -> Any:
    """Run a task in a worker process, with environment variables of its own; return its result."""
    log = logs / f"{'-'.join(filter(None, (benchmark.name, job.variant, task)))}.log"
    job_json = json.dumps({**vars(job), "folder": str(job.folder)})
    variables = dict.fromkeys(_THREAD_VARIABLES, str(job.threads)) | dict(own or {})
    arguments = (benchmark.name, task, job_json)
    return run_module(benchmark.name, "benchmarks.worker", arguments, variables, log)
