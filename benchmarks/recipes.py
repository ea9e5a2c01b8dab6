"""Compare recipes of training and prediction: `python -m benchmarks.recipes --work FOLDER`.

Every recipe is trained on the 24 cases of the README's phantom, with several seeds, and scored on
30 other cases (a phantom of another seed) and on the README's six held-out cases. A run is what
`bin/train.py`, `bin/predict.py` and `bin/evaluate.py` do, on one core; there is one for each core
at a time. What is done stays in the folder and is not done again.
"""

import argparse
import itertools
import os
import queue
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsjax.command import exit_with, run_command
from kitsjax.errors import InputError
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.files import check_folder, write_text
from kitsjax.labels import KITS, MAJORITY
from kitsjax.report.statistics import mean_interval
from kitsjax.report.table_format import Column, Table, to_markdown
from kitsjax.training_log import LOG_NAME, read_epochs

ROOT = Path(__file__).parents[1]

BASE = "base"
"""The recipe that the others are compared with. It is written out, so that the comparison stays the
same when `configs/phantom.toml` takes another one."""


@dataclass(frozen=True)
class Recipe:
    """What a recipe changes of the base.

    Attributes:
        training: settings of the run.
        prediction: settings of prediction, by which the run's model is used again.
        trained_as: the recipe whose model is used; empty: its own.
    """

    training: tuple[str, ...] = ()
    prediction: tuple[str, ...] = ()
    trained_as: str = ""


RECIPES = {
    BASE: Recipe((
        'preprocess.normalize="foreground"', "sampling.foreground_fraction=0.5",
        "sampling.class_weights=[1,1,1]", "augment.mirror=0.1", "augment.rotate=0.1",
        "augment.scale=0.1", "augment.brightness=0.1", "augment.contrast=0.1", "augment.gamma=0.1",
        "loss.regions=false", "loss.dice_per_batch=true", "train.ema_decay=0", "train.epochs=14",
        "train.validation_batches=4",
        'predict.resample="probability"', "predict.mirror=false", "predict.least_organ_ml=0",
    )),
    "case": Recipe(('preprocess.normalize="case"',)),
    "regions": Recipe(("loss.regions=true",)),
    "ema": Recipe(("train.ema_decay=0.99",)),
    "class weights": Recipe(("sampling.class_weights=[1,2,2]",)),
    "mirror": Recipe(("augment.mirror=1",)),
    "augment": Recipe((
        "augment.mirror=1", "augment.rotate=0.4", "augment.scale=0.4", "augment.brightness=0.3",
        "augment.contrast=0.3", "augment.gamma=0.3",
    )),
    "plain": Recipe(("augment.mirror=0", "augment.rotate=0", "augment.scale=0")),
    "3 mm": Recipe(("preprocess.spacing_mm=3.0",)),
    "longer": Recipe(("train.epochs=20",)),
    "label": Recipe((), ('predict.resample="label"',), BASE),
    "mirrored prediction": Recipe((), ("predict.mirror=true",), BASE),
    "least kidney": Recipe((), ("predict.least_organ_ml=10",), BASE),
}  # fmt: skip
"""The base, and one change of it each."""


def train_and_score(work: Path, name: str, seed: int, core: int) -> None:
    """Train a recipe, predict the other cases and score both, on one core; skip what is done."""
    recipe = RECIPES[name]
    run = work / f"{recipe.trained_as or name}-{seed}"
    if not (run / "summary.json").exists():
        options = (
            *RECIPES[BASE].training, *recipe.training, f"data.root={work / 'phantom'}",
            f"run.folder={run}", f"train.seed={seed}", "run.cpu_devices=1", "data.workers=1",
            "train.threshold_baseline=false",
        )  # fmt: skip
        resume = ["--resume"] if (run / "run.json").exists() else []
        _command(core, "train", "--config", "configs/phantom.toml", *resume, *_sets(options))
    for cases in ("others", "phantom"):
        if not is_scored(scores := score_folder(work, name, seed, cases)):
            masks, data = scores.with_name(f"{scores.name}-masks"), work / cases
            given = ("--model", run, "--input", data, "--output", masks, "--continue")
            _command(core, "predict", *given, *_sets(recipe.prediction))
            split = ("--split", run / "split.json") if cases == "phantom" else ()
            given = ("--predictions", masks, "--dataset", data, "--output", scores, *split)
            _command(core, "evaluate", *given, "--against", MAJORITY, "--workers", 1)


def is_scored(folder: Path) -> bool:
    """Tell whether a folder holds the scores of all its cases.

    Of an evaluation's files `evaluation.json` is written last.
    """
    if not (folder / "evaluation.json").exists():
        return False
    found = read_evaluation(folder)
    return not (found.failures or found.missing)


def score_folder(work: Path, name: str, seed: int, cases: str) -> Path:
    """Return the folder of the scores of a recipe and seed on "others" or on the "phantom"."""
    run = f"{name}-{seed}"
    own = cases == "phantom" and not RECIPES[name].prediction
    return work / run / "scores" if own else work / "scores" / f"{run}-{cases}"


def _sets(options: Iterable[str]) -> list[str]:
    return list(itertools.chain.from_iterable(("--set", option) for option in options))


def _command(core: int, name: str, *options: object) -> None:
    """Run a command of `bin/` on one core.

    Raises:
        InputError: It failed; what it printed is on standard error.
    """
    done = subprocess.run(
        [sys.executable, f"bin/{name}.py", *map(str, options)], check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    if done.returncode:
        raise InputError(f"bin/{name}.py: exit status {done.returncode}, as told above")


def read_scores(work: Path, name: str, seeds: Sequence[int], cases: str) -> np.ndarray:
    """Return Dice and surface Dice (seed, case, class, score), with the cases in order."""
    found = [read_evaluation(score_folder(work, name, seed, cases)) for seed in seeds]
    return np.array([
        [
            [[tables[s][c][case] for s in range(2)] for c in KITS.evaluation_keys]
            for case in evaluation.case_ids
        ]
        for evaluation in found
        for tables in [[evaluation.table(MAJORITY, s) for s in ("dice", "surface_dice")]]
    ])  # fmt: skip


def make_rows(work: Path, names: Sequence[str], seeds: Sequence[int]) -> list[list[str]]:
    """Make a row of each recipe.

    Its cells are the name, the time of an epoch as a multiple of the base's, and for the other
    cases and then the six the mean Dice and surface Dice of each class. In brackets stands the 95 %
    interval of the difference from the base, by bootstrap over cases of their means over seeds.
    """
    rows = []
    base = {cases: read_scores(work, BASE, seeds, cases) for cases in ("others", "phantom")}
    for name in names:
        ratio = _seconds(work, name, seeds) / _seconds(work, BASE, seeds)
        cells = [name, f"{ratio:.2f}"]
        for cases, reference in base.items():
            found = read_scores(work, name, seeds, cases)
            difference = (found - reference).mean(0)
            for c, s in itertools.product(range(len(KITS.evaluation_keys)), range(2)):
                cells.append(f"{found[..., c, s].mean():.3f}")
                if name != BASE and cases == "others":
                    _, low, high = mean_interval(difference[:, c, s].tolist())
                    cells[-1] += f" ({low:+.3f}, {high:+.3f})"
        rows.append(cells)
    return rows


def _seconds(work: Path, name: str, seeds: Sequence[int]) -> float:
    """Return the time of the fastest epoch in seconds: other work can only make one longer."""
    runs = [work / f"{RECIPES[name].trained_as or name}-{seed}" for seed in seeds]
    return min(row["seconds"] for run in runs for row in read_epochs(run / LOG_NAME))


def _make_table(work: Path, names: Sequence[str], seeds: Sequence[int]) -> Table:
    columns = [Column("recipe"), Column("time")]
    for cases in ("thirty others", "six held out"):
        for name in KITS.titles.values():
            columns += [Column(name, cases), Column(f"{name}, surface", cases)]
    rows = tuple(tuple(row) for row in make_rows(work, names, seeds))
    return Table("Recipes: Dice and surface Dice", tuple(columns), rows)


def main() -> int:
    """Make the two phantoms, train and score what is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--work", required=True, metavar="FOLDER", help="phantoms, runs, table")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    check_folder(args.work, "--work")
    work, names = Path(args.work).resolve(), list(dict.fromkeys([BASE, *args.recipes]))
    cores = sorted(os.sched_getaffinity(0))
    for seed, cases in enumerate(("phantom", "others")):
        options = _sets((f"data.root={work / cases}", f"phantom.seed={seed}"))
        _command(cores[0], "preprocess", "--config", "configs/phantom.toml", *options)
    free: queue.Queue[int] = queue.Queue()
    for core in cores:
        free.put(core)

    def work_on(job: tuple[str, int]) -> None:
        core = free.get()
        try:
            train_and_score(work, *job, core)
        finally:
            free.put(core)

    # Those that use another recipe's model come after it.
    for own in (True, False):
        jobs = [(n, s) for s in args.seeds for n in names if own != bool(RECIPES[n].trained_as)]
        with ThreadPoolExecutor(len(cores)) as pool:
            list(pool.map(work_on, jobs))
    table = to_markdown(_make_table(work, names, args.seeds))
    write_text(work / "recipes.md", table)
    print(table)
    return 0


if __name__ == "__main__":
    exit_with(run_command(main))
