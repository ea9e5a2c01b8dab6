"""The split of a data set into training cases and held-out cases."""

import json
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.input_file import advise_reading


@dataclass(frozen=True)
class Split:
    """The ids of the cases to train on and of the cases held out, each sorted."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


class _SplitFile(BaseModel):
    """The content of a split file; other keys are ignored."""

    model_config = ConfigDict(strict=True)

    train: list[str]
    held_out: list[str]


class _Fold(BaseModel):
    """A fold of nnU-Net's `splits_final.json`; other keys are ignored."""

    model_config = ConfigDict(strict=True)

    train: list[str]
    held_out: list[str] = Field(alias="val")


_CONTENT: TypeAdapter[_SplitFile | list[_Fold]] = TypeAdapter(
    _SplitFile | Annotated[list[_Fold], Field(min_length=1)]
)


def split_cases(case_ids: Sequence[str], held_out: int, seed: int) -> Split:
    """Hold out `held_out` cases at random without replacement, the same ones for the same seed.

    Raises:
        InputError: No case would be left to train on.
    """
    ids = sorted(case_ids)
    if held_out >= len(ids):
        raise InputError(
            f"data.held_out = {held_out} leaves no case to train on, since the data set has "
            f"{len(ids)}; hold out fewer"
        )
    chosen = np.random.default_rng(seed).permutation(len(ids))[:held_out]
    held = {ids[i] for i in chosen}
    return Split(tuple(i for i in ids if i not in held), tuple(sorted(held)))


def read_split(path: str | Path, case_ids: Sequence[str] | None = None) -> Split:
    """Read a split file, or a file of one fold, and check it; see `read_splits`.

    Raises:
        InputError: As `read_splits`, or the file has several folds.
    """
    splits = read_splits(path, case_ids)
    if len(splits) > 1:
        raise InputError(
            f"{path}: holds {len(splits)} folds; choose one with bin/train.py --fold, or give a "
            "file of one"
        )
    return splits[0]


def read_splits(path: str | Path, case_ids: Sequence[str] | None = None) -> list[Split]:
    """Read and check the folds of a file in nnU-Net's form, or the one split of a split file.

    Args:
        path: JSON file: {"train": [...], "held_out": [...]}, or a list of {"train": [...], "val":
            [...]}.
        case_ids: ids of the cases in the data folder; None: the splits may name any case.

    Raises:
        InputError: The file cannot be read or is no split, or as `check_split`.
    """
    try:
        # Some editors begin a text with a byte order mark.
        text = Path(path).read_bytes().removeprefix(BOM_UTF8)
        content = _CONTENT.validate_json(text)
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the split ({error.strerror}); "
            + advise_reading(error, "give a run's split.json")
        ) from None
    except ValidationError:
        raise InputError(
            f'{path}: not a split; write {{"train": ["case_00000", ...], "held_out": [...]}}, or '
            'folds as [{"train": [...], "val": [...]}, ...]'
        ) from None
    found = content if isinstance(content, list) else [content]
    splits = [Split(tuple(sorted(one.train)), tuple(sorted(one.held_out))) for one in found]
    for fold, split in enumerate(splits):
        check_split(split, case_ids, f"{path}, fold {fold}" if len(splits) > 1 else path)
    return splits


def check_split(split: Split, case_ids: Sequence[str] | None, source: str | Path) -> None:
    """Check a split against the ids of the cases in the data folder; None: against itself only.

    Raises:
        InputError: It names an unknown case or a case twice, or has no case to train on; the
            message begins with `source`.
    """
    known = {*split.train, *split.held_out} if case_ids is None else set(case_ids)
    problem = _find_problem(split, known)
    if problem:
        raise InputError(f"{source}: {problem}; correct the split")


def split_text(split: Split) -> str:
    """Return the text of a split file, which `read_split` reads."""
    return json.dumps(asdict(split), indent=1) + "\n"


def write_split(path: str | Path, split: Split) -> None:
    """Write a split file that `read_split` reads."""
    write_text(path, split_text(split))


def _find_problem(split: Split, known: set[str]) -> str | None:
    """Say what makes a split unusable for the known cases; None if nothing does."""
    both = set(split.train) & set(split.held_out)
    if both:
        return f"{min(both)} is in both train and held_out"
    for side, ids in asdict(split).items():
        if len(set(ids)) < len(ids):
            return f"{max(ids, key=ids.count)} is in {side} twice"
    unknown = {*split.train, *split.held_out} - known
    if unknown:
        return f"{min(unknown)} is not in the data folder"
    return None if split.train else "no case to train on"
