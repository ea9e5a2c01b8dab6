"""What kitsjax and nnU-Net learn from: a data set, its split, and the cases they are tested on."""

import os
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
            the next seed, and for other data only those that are held out.
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
        tests: folder of links to the cases to test on, by the name of their set; the held-out ones
            are first.
    """

    folder: Path
    settings: Settings
    tests: dict[str, Path]


def read_settings(options: LearnOptions) -> Settings:
    """Read the settings, and check what can be checked before anything is made.

    Raises:
        InputError: A setting or rate is wrong, or no case is held out.
    """
    config = options.config or ROOT / "configs" / "phantom.toml"
    settings = load_settings(config, options.overrides)
    if not settings.data.held_out and not settings.data.split:
        raise InputError(
            "data.held_out = 0: the learn benchmark needs cases to test on; hold some out"
        )
    if any(rate <= 0 for rate in options.rates) or len(set(options.rates)) < len(options.rates):
        raise InputError(
            f"--rates {' '.join(map(str, options.rates))}: give different rates above 0"
        )
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
    cases = {case.case_id: case for case in find_cases(root)}
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
    tests = {HELD_OUT: [cases[name] for name in split.held_out]}
    tests |= _find_others(data, phantom, test, folder)
    links = {name: _link(tests[name], folder / "tests" / name) for name in tests}
    return Task(folder, settings, links)


def _link(cases: Sequence[Case], folder: Path) -> Path:
    """Make a data set of links to cases."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        link = folder / case.case_id
        if not link.exists():
            link.symlink_to(os.path.abspath(case.folder))
    return folder


def _find_others(
    data: DataSettings, phantom: PhantomSettings, test: str | Path | None, folder: Path
) -> dict[str, list[Case]]:
    """Find the test cases that are not of the data set, by the name of their set."""
    if test:
        return {Path(test).name: find_cases(test)}
    if not data.make_phantom:
        return {}
    others, seed = folder / "phantom-others", phantom.seed + 1
    number = OTHERS_PER_HELD_OUT * data.held_out
    make_phantom(others, number, phantom.matrix, seed, data.workers, domain=phantom.domain)
    return {f"phantom of seed {seed}": find_cases(others)}
