"""The split of a data set into training and held-out cases."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsjax.errors import InputError
from kitsjax.files import write_text


@dataclass(frozen=True)
class Split:
    """Case ids that are trained on and case ids held out, each sorted."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def split_cases(case_ids: Sequence[str], held_out: int, seed: int) -> Split:
    """Hold out `held_out` cases at random without replacement (D1), the same for the same seed.

    Raises:
        InputError: no case would be left to train on.
    """
    ids = sorted(case_ids)
    if held_out >= len(ids):
        raise InputError(
            f"data.held_out = {held_out} leaves no case to train on: the data set has {len(ids)}"
        )
    chosen = np.random.default_rng(seed).permutation(len(ids))[:held_out]
    held = {ids[i] for i in chosen}
    return Split(tuple(i for i in ids if i not in held), tuple(sorted(held)))


def read_split(path: str | Path, case_ids: Sequence[str]) -> Split:
    """Read a split file and check it against the cases at hand.

    Raises:
        InputError: unreadable, of another form, a case unknown or on both sides, nothing to train
            on.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
        split = Split(tuple(sorted(tree["train"])), tuple(sorted(tree["held_out"])))
        well_formed = all(isinstance(i, str) for i in (*split.train, *split.held_out))
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the split ({error.strerror}); give a run's split.json"
        ) from None
    except (ValueError, KeyError, TypeError):
        well_formed = False
    if not well_formed:
        raise InputError(
            f'{path}: not a split; write {{"train": ["case_00000", ...], "held_out": [...]}}'
        )
    both = set(split.train) & set(split.held_out)
    unknown = (set(split.train) | set(split.held_out)) - set(case_ids)
    if both or unknown or not split.train:
        what = (
            f"{min(both)} is on both sides" if both
            else f"{min(unknown)} is not in the data folder" if unknown
            else "no case to train on"
        )  # fmt: skip
        raise InputError(f"{path}: {what}; correct the split")
    return split


def write_split(path: str | Path, split: Split) -> None:
    """Write a split file that `read_split` reads."""
    tree = {"train": list(split.train), "held_out": list(split.held_out)}
    write_text(path, json.dumps(tree, indent=1) + "\n")
