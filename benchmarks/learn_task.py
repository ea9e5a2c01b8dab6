"""What kitsjax and nnU-Net learn from: a data set, its split, and the cases they are tested on."""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.run_process import ROOT
from kitsjax.config import load_settings
from kitsjax.data.case import Case
from kitsjax.data.kits import find_cases
from kitsjax.data.split import read_split, split_cases, write_split
from kitsjax.errors import InputError
from kitsjax.phantom.dataset import make_phantom
from kitsjax.settings import DataSettings, PhantomSettings, Settings

OTHERS_PER_HELD_OUT = 2
"""The phantom is also tested on so many cases of another seed for each one that is held out: few
held-out cases differ by more between two runs than two recipes do."""

OTHER_SEED = 1000
"""The seed of those cases is higher by so much than the phantom's.

Recipes were compared on cases of the next seed (`benchmarks/recipes.py`), which therefore favor
what was chosen by them.
"""

HELD_OUT = "held out"
"""Name of the test set of the split's held-out cases."""


@dataclass(frozen=True)
class LearnOptions:
    """What a user can choose of the benchmark.

    Attributes:
        config: settings file of kitsjax's run: data set, network, patch, batch, steps and recipe;
            None: configs/phantom.toml.
        overrides: changes of these settings, such as "train.epochs=28".
        test: folder of more cases to test on, in KiTS21's layout; None: for the phantom, cases of
            another seed (`OTHER_SEED`), and for other data only those that are held out.
        rates: learning rates of nnU-Net, each of which makes a contender; 0.01 is its default.
    """

    config: str | Path | None = None
    overrides: Sequence[str] = ()
    test: str | Path | None = None
    rates: Sequence[float] = (0.01,)


@dataclass(frozen=True)
class Task:
    """What all contenders learn.

    Attributes:
        folder: folder of inputs and trainings.
        settings: kitsjax's settings, with the data set and its split as absolute paths.
        data: what the data set is, in words.
        tests: folder of links to the cases to test on, by the name of their set; the held-out ones
            are first.
    """

    folder: Path
    settings: Settings
    data: str
    tests: dict[str, Path]


def read_settings(options: LearnOptions) -> Settings:
    """Read the settings, and check what can be checked before anything is made.

    Raises:
        InputError: A setting or rate is wrong, a folder or file that is given cannot be used, or no
            case is held out.
    """
    config = options.config or ROOT / "configs" / "phantom.toml"
    settings = load_settings(config, options.overrides)
    data = settings.data
    if data.folds or data.fold >= 0:
        raise InputError("data.folds: the learn benchmark trains on one split; leave it out")
    if data.make_phantom and data.root != load_settings(config).data.root:
        raise InputError(
            f"data.root = {data.root}: the phantom is made in --work; to learn from that data set, "
            "add --set data.make_phantom=false"
        )
    held_out = len(read_split(data.split).held_out) if data.split else data.held_out
    if not held_out:
        raise InputError(
            "no case is held out (data.held_out, data.split): the learn benchmark needs cases to "
            "test on; hold some out"
        )
    if not data.make_phantom:
        find_cases(data.root)
    if options.test:
        find_cases(options.test)
    rates = options.rates
    if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise InputError(f"--rates {' '.join(map(str, rates))}: give different rates above 0")
    return settings


def make_task(settings: Settings, test: str | Path | None, folder: Path) -> Task:
    """Make the phantom if asked for, split the cases and gather those to test on.

    Args:
        settings: as `read_settings` returns them.
        test: see `LearnOptions`.
        folder: folder of inputs and trainings.

    Raises:
        InputError: The data set or the split cannot be used.
    """
    data, phantom = settings.data, settings.phantom
    root = folder / "phantom" if data.make_phantom else Path(os.path.abspath(data.root))
    if data.make_phantom:
        make_phantom(
            root, phantom.cases, phantom.matrix, phantom.seed, data.workers, domain=phantom.domain
        )
    found = find_cases(root)
    # An earlier run in the same folder may have made more of them.
    cases = {case.case_id: case for case in found[: phantom.cases if data.make_phantom else None]}
    split = (
        read_split(data.split, list(cases))
        if data.split
        else split_cases(list(cases), data.held_out, data.split_seed)
    )
    write_split(folder / "split.json", split)
    fixed = {
        "root": str(root),
        "cache": str(folder / "preprocessed"),
        "split": str(folder / "split.json"),
        "make_phantom": False,
    }
    settings = settings.model_copy(
        update={
            "data": data.model_copy(update=fixed),
            "train": settings.train.model_copy(update={"threshold_baseline": False}),
        }
    )
    tests = {HELD_OUT: _link([cases[name] for name in split.held_out], folder / "tests/held-out")}
    number = OTHERS_PER_HELD_OUT * len(split.held_out)
    name, others = _find_others(data, phantom, test, folder, number)
    _refuse_known(others, [cases[name] for name in split.train], test)
    if others:
        tests[name] = _link(others, folder / "tests" / "others")
    about = f"phantom of seed {phantom.seed} ({phantom.domain})" if data.make_phantom else str(root)
    return Task(folder, settings, f"{about}, {len(split.train)} cases to train on", tests)


def _link(cases: Sequence[Case], folder: Path) -> Path:
    """Make a data set of links to cases, and of no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for case in cases:
        (folder / case.case_id).symlink_to(os.path.realpath(case.folder))
    return folder


def _find_others(
    data: DataSettings,
    phantom: PhantomSettings,
    test: str | Path | None,
    folder: Path,
    number: int,
) -> tuple[str, list[Case]]:
    """Find the test cases that are not of the data set, and name their set; there may be none."""
    if test:
        return f"{Path(test).resolve().name} (--test)", find_cases(test)
    if not data.make_phantom:
        return "", []
    seed = phantom.seed + OTHER_SEED
    others = folder / f"phantom-{seed}"
    make_phantom(others, number, phantom.matrix, seed, data.workers, domain=phantom.domain)
    return f"phantom of seed {seed}", find_cases(others)[:number]


def _refuse_known(others: Sequence[Case], train: Sequence[Case], test: str | Path | None) -> None:
    """Refuse to test on cases that are trained on."""
    known = {os.path.realpath(case.folder) for case in train}
    for case in others:
        if os.path.realpath(case.folder) in known:
            raise InputError(f"--test {test}: {case.case_id} is trained on; give other cases")
