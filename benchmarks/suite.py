"""The benchmark command: which benchmarks are run, at which size, and the files that it writes."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from benchmarks import forms, learn
from benchmarks.catalog import BENCHMARKS
from benchmarks.compare import Options, run_benchmark
from benchmarks.definition import Size
from benchmarks.hardware import describe_machine, describe_packages
from benchmarks.learn_task import LearnOptions
from benchmarks.results import Row, to_json, to_table, write_results
from benchmarks.scaling import run_scaling
from kitsjax.config import load_settings
from kitsjax.errors import InputError
from kitsjax.files import check_folder
from kitsjax.report.table_format import to_text

SCALING, LEARN, FORMS = "scaling", "learn", "forms"
"""These have files of their own: cost against size, without baselines; what is learned; and the
forms of the convolution."""

NAMES = (*BENCHMARKS, SCALING, LEARN, FORMS)


def list_benchmarks() -> str:
    """Return a line for each benchmark: its name and what it measures."""
    works = {name: benchmark.work for name, benchmark in BENCHMARKS.items()}
    works[SCALING] = "the cost of each stage of kitsjax against its size, as a figure"
    works[LEARN] = f"{learn.WORK}; takes hours, and runs only when it is named"
    works[FORMS] = f"{forms.WORK}; runs only when it is named"
    return "\n".join(f"{name:<11} {work}" for name, work in works.items())


def run_suite(
    output: str | Path,
    only: Sequence[str] | None = None,
    size: Size | None = None,
    rounds: int = 3,
    work: str | Path | None = None,
    options: LearnOptions | None = None,
) -> str:
    """Run benchmarks, and write `benchmark.md` and `benchmark.json` anew after each of them.

    Args:
        output: folder of the tables, figures and logs.
        only: names of the benchmarks, in order; None: all but `learn` and `forms`.
        size: size of the inputs; None: `full` where JAX finds an accelerator, else `small`.
        rounds: number of times that the contenders take turns.
        work: folder of inputs and outputs, kept for another run; None: a temporary folder.
        options: choices of `learn` and `forms`; None: their defaults.

    Returns:
        The tables as text; empty if only the scaling was measured.

    Raises:
        InputError: There is no such benchmark, a folder cannot be used, or kitsjax itself failed.
    """
    names, output = list(dict.fromkeys(only or (*BENCHMARKS, SCALING))), Path(output)
    options = options or LearnOptions()
    _check(output, names, rounds, work, options)
    machine, packages = describe_machine(), describe_packages()
    platform = "cpu" if machine["accelerators"] == "none" else "gpu"
    size = size or ("small" if platform == "cpu" else "full")
    rows: list[Row] = []
    texts: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kitsjax-benchmark-") as temporary:
        folder = Path(work or temporary).resolve()
        compared = Options(folder, output / "logs", size, platform, rounds)
        for name in names:
            if name not in BENCHMARKS:
                texts += _run_own(name, output, compared, options)
                continue
            measured = run_benchmark(BENCHMARKS[name], compared)
            if not rows:
                _set_aside(output)
            rows += measured
            table, found = to_table(rows, machine, packages), to_json(rows, machine, packages)
            write_results(output / "benchmark", table, found)
    if rows:
        texts.insert(0, to_text(to_table(rows, machine, packages)))
    return "\n\n".join(texts)


def _run_own(name: str, output: Path, compared: Options, options: LearnOptions) -> list[str]:
    """Run a benchmark that has files of its own; return its table as text, if it has one."""
    folder = compared.work / name
    if name == SCALING:
        run_scaling(output, folder)
        return []
    if name == LEARN:
        return [learn.run_learn(output, folder, options, compared.rounds)]
    chosen = options.config, options.overrides
    return [forms.run_forms(output, compared.size, *chosen, compared.rounds)]


def _check(
    output: Path, names: Sequence[str], rounds: int, work: str | Path | None, options: LearnOptions
) -> None:
    """Refuse wrong options before anything is measured or written."""
    for name in names:
        if name not in NAMES:
            raise InputError(f"--only {name}: no such benchmark; choose from {', '.join(NAMES)}")
    if rounds < 1:
        raise InputError(f"--rounds {rounds}: take at least 1")
    own = "benchmark.md", "benchmark.json", "scaling.json", "scaling.png"
    check_folder(output, "--output", (*own, *learn.FILES, *forms.FILES))
    _check_results(output / "benchmark.json", names)
    if work:
        check_folder(work, "--work")
    chosen = options.config or options.overrides
    trains = options.test or tuple(options.rates) != LearnOptions().rates
    if (chosen and not {LEARN, FORMS} & set(names)) or (trains and LEARN not in names):
        raise InputError(
            "--config and --set are of learn and forms, --test and --rates of learn: name it with "
            "--only, or leave them out"
        )
    if LEARN in names:
        learn.check_learn(options)
        if not work:
            raise InputError("learn: give --work FOLDER, which keeps what is trained, and its logs")
    if FORMS in names:
        load_settings(options.config, options.overrides)


def _set_aside(output: Path) -> None:
    """Rename earlier results: this run may be ended before it has measured all of them again."""
    found = [output / f"benchmark.{suffix}" for suffix in ("md", "json")]
    number = next(n for n in count(1) if not any(_earlier(path, n).exists() for path in found))
    for path in found:
        with suppress(FileNotFoundError):
            path.replace(_earlier(path, number))


def _earlier(path: Path, number: int) -> Path:
    return path.with_stem(f"benchmark.earlier-{number}")


def _check_results(path: Path, names: Sequence[str]) -> None:
    """Refuse to replace an earlier run's results by those of fewer benchmarks."""
    if not path.exists() or set(names) <= {SCALING, LEARN, FORMS}:
        return
    try:
        earlier = [row["benchmark"] for row in json.loads(path.read_text())["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not as the benchmark writes it; choose another --output"
        ) from error
    lost = [name for name in dict.fromkeys(earlier) if name not in names]
    if lost:
        raise InputError(
            f"{path}: has results of {', '.join(lost)} that would be lost; choose another --output"
        )
