"""Cross-validation: the folds of a data set, each of which holds out other cases.

They are kept in nnU-Net's form, `splits_final.json`: a list of {"train": [...], "val": [...]}, one
for each fold. The run of fold K is in the folder `fold_K` beside that file.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kitsjax.data.split import Split, read_splits
from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.settings import DataSettings

FOLDS_NAME = "splits_final.json"
"""File name of the folds, in the folder that holds their runs."""

_PREFIX = "fold_"


def fold_folder(folder: str | Path, fold: int) -> Path:
    """Return the run folder of a fold."""
    return Path(folder) / f"{_PREFIX}{fold}"


def find_fold_folders(folder: str | Path) -> list[Path]:
    """List the run folders of folds that are there, in the order of the folds."""
    found = [path for path in Path(folder).glob(f"{_PREFIX}*") if path.is_dir()]
    numbered = {path.name.removeprefix(_PREFIX): path for path in found}
    return [numbered[number] for number in sorted(filter(str.isdecimal, numbered), key=int)]


def count_folds(data: DataSettings) -> int:
    """Return the number of folds: `data.folds`, or that of the folds in the file `data.split`.

    Raises:
        InputError: there are no folds, the file cannot be read, or the two numbers differ.
    """
    count = len(read_splits(data.split)) if data.split else data.folds
    if data.split and data.folds > 1 and count != data.folds:
        raise InputError(
            f"{data.split}: holds {count} folds, but data.folds = {data.folds}; leave that out"
        )
    if count < 2:
        raise InputError(
            "--fold: there are no folds; set data.folds to 2 or more, or data.split to a file of "
            "several folds"
        )
    return count


def choose_folds(data: DataSettings, case_ids: Sequence[str]) -> list[Split]:
    """Return the folds of the file `data.split`, or make `data.folds` at random by the seed.

    Raises:
        InputError: see `count_folds`; there are fewer cases than folds; or the file's folds do not
            hold out each case once, or do not fit the cases.
    """
    count = count_folds(data)
    if not data.split:
        return make_folds(case_ids, count, data.split_seed)
    folds = read_splits(data.split, case_ids)
    held_out = Counter(case for fold in folds for case in fold.held_out)
    for case in sorted(case_ids):
        if held_out[case] != 1:
            what = f"in val of {held_out[case]} folds" if held_out[case] else "in val of no fold"
            raise InputError(f"{data.split}: {case} is {what}; hold out each case once")
    return folds


def make_folds(case_ids: Sequence[str], count: int, seed: int) -> list[Split]:
    """Make folds by a seeded shuffle: each case is held out once, sizes differ by at most one.

    Raises:
        InputError: There are fewer cases than folds.
    """
    ids = sorted(case_ids)
    if count > len(ids):
        raise InputError(f"data.folds = {count}: the data set has {len(ids)} cases; make fewer")
    order = np.random.default_rng(seed).permutation(len(ids))
    parts = [{ids[i] for i in part} for part in np.array_split(order, count)]
    return [Split(tuple(i for i in ids if i not in held), tuple(sorted(held))) for held in parts]


def choose_fold(data: DataSettings, case_ids: Sequence[str], folder: Path) -> Split:
    """Return the split of the fold `data.fold`, whose run is in a folder.

    Raises:
        InputError: see `choose_folds`; there is no such fold; or the folder is not the fold's, or
            stands beside a file of other folds.
    """
    folds = choose_folds(data, case_ids)
    if data.fold >= len(folds):
        raise InputError(f"--fold {data.fold}: give a fold from 0 to {len(folds) - 1}, or all")
    if folder.name != fold_folder("", data.fold).name:
        raise InputError(
            f"{folder}: is not the run folder of fold {data.fold}; leave out data.fold, and give "
            f"--fold {data.fold}"
        )
    path = folder.parent / FOLDS_NAME
    if path.exists() and read_splits(path) != folds:
        raise InputError(
            f"{path}: holds other folds than these settings make of these cases; set "
            "data.split to it, or choose another run.folder"
        )
    return folds[data.fold]


def write_folds(folder: str | Path, folds: Sequence[Split]) -> None:
    """Write the file of the folds, unless it is there."""
    path = Path(folder) / FOLDS_NAME
    if not path.exists():
        content = [{"train": fold.train, "val": fold.held_out} for fold in folds]
        write_text(path, json.dumps(content, indent=1) + "\n")
