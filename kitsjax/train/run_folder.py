"""The folder of a run: its record with copies to read, and the rules for resuming it."""

import json
import logging
import platform
import shlex
import time
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from kitsjax.config import parse_stored_settings, to_inline_toml, to_toml
from kitsjax.data.case import Case
from kitsjax.data.folds import choose_fold, find_fold_folders
from kitsjax.data.split import Split, check_split, read_split, split_cases, write_split
from kitsjax.errors import InputError
from kitsjax.failures import catch
from kitsjax.files import remove_file, write_text
from kitsjax.run_record import RECORD_NAME, RunRecord, read_record, write_record
from kitsjax.settings import Settings
from kitsjax.train.initial_model import read_initial
from kitsjax.train.run_files import list_files
from kitsjax.training_log import LOG_NAME

_logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""Name of the folder of checkpoints in a run folder."""

_PACKAGES = (
    "kitsjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy",
    "nibabel",
)  # fmt: skip

_FREE_ON_RESUME = {
    "data.root", "data.layout", "data.cache", "data.make_phantom", "data.workers", "data.split",
    "labels.colors",
    "sampling.threads", "sampling.prefetch", "network.remat", "network.convolution",
    "train.checkpoint_epochs", "train.checkpoint_minutes", "train.threshold_baseline",
}  # fmt: skip
"""Settings that may change when a run is resumed, because they do not change what is computed. All
settings of [predict] and [run] may change too."""

ELSEWHERE = "choose another folder with --set run.folder=..."
"""What a message advises where a folder cannot be that of the run."""

_SETTINGS, _SPLIT, _VERSIONS = "settings.toml", "split.json", "versions.json"


def open_run(settings: Settings, resume: bool) -> RunRecord | None:
    """Read the record of the run to resume; None if a new run is to begin.

    With `resume` and no run in the folder, a new run begins, so that a scheduler can repeat one
    command without knowing whether it is the first time. A folder whose run failed before its
    training began, for instance because of a wrong path, holds no run yet. Nothing is written.

    Raises:
        InputError: the folder holds a run and `resume` is off, the folds of a cross-validation, or
            parts of a run without its record; the run's settings differ; or the model that a new
            run is to start from cannot be read or is of another network.
    """
    folder = Path(settings.run.folder)
    record = load_record(folder)
    if record is not None and not resume:
        raise InputError(
            f"{folder}: already holds a run; add --resume to go on with it, or {ELSEWHERE}"
        )
    if record is None and any(map(read_record, find_fold_folders(folder))):
        raise InputError(f"{folder}: holds a cross-validation; add --fold, or {ELSEWHERE}")
    if record is not None:
        stored = parse_stored_settings(record.settings, f"{folder / RECORD_NAME}, its settings")
        _check_same(stored, settings, folder)
    elif settings.train.init_from:
        # Preparing the data may take hours; the labels are judged where the data set's are known.
        read_initial(settings)
    return record


def load_record(folder: str | Path) -> RunRecord | None:
    """Read the record of a run folder, or make it for a run of an older version.

    Such a run has `settings.toml` and `split.json`; what its data set was is not known.

    Returns:
        The record; None if the folder holds no run.

    Raises:
        InputError: the record cannot be read, or the folder holds checkpoints or a training log,
            but neither the record nor what an older version left in its place.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record is not None:
        return record
    parts = [LOG_NAME] if (folder / LOG_NAME).exists() else []
    if any(path.name.isdecimal() for path in folder.glob(f"{CHECKPOINTS}/*")):
        parts.append(CHECKPOINTS)
    if not parts:
        return None
    try:
        settings = (folder / _SETTINGS).read_text(encoding="utf-8")
        split = read_split(folder / _SPLIT)
    except (OSError, UnicodeDecodeError, InputError):
        raise InputError(
            f"{folder}: holds {' and '.join(parts)} of a run, but not its {RECORD_NAME}; put that "
            f"file back, or {ELSEWHERE}"
        ) from None
    return RunRecord(
        settings=settings,
        versions=_read_versions(folder),
        train=list(split.train),
        held_out=list(split.held_out),
    )


def choose_split(settings: Settings, case_ids: Sequence[str], record: RunRecord | None) -> Split:
    """Return the split of the run's record, or choose the one of a new run.

    A new run takes the fold `data.fold` if there is one; else the split in the file `data.split`,
    or a random one of `data.split_seed` if no file is given. A run that goes on keeps its own, and
    a note tells of a file with another one.

    Raises:
        InputError: the split file cannot be read, the split does not fit the cases, no case is left
            to train on, or there are folds and none is chosen.
    """
    if record is not None:
        split = Split(tuple(record.train), tuple(record.held_out))
        check_split(split, case_ids, f"{settings.run.folder}: the run's split")
        if settings.data.split and settings.data.fold < 0:
            # The file may be gone, or lie elsewhere on each host.
            other = catch(read_split, settings.data.split, case_ids)
            if not isinstance(other, InputError) and other != split:
                _logger.warning("%s: not the run's split, which it keeps", settings.data.split)
        return split
    if settings.data.fold >= 0:
        return choose_fold(settings.data, case_ids, Path(settings.run.folder))
    if settings.data.folds > 1:
        raise InputError(
            f"data.folds = {settings.data.folds}: give --fold 0 to {settings.data.folds - 1}, or "
            "--fold all"
        )
    if settings.data.split:
        return read_split(settings.data.split, case_ids)
    return split_cases(case_ids, settings.data.held_out, settings.data.split_seed)


def begin_run(
    settings: Settings, split: Split, cases: Sequence[Case], record: RunRecord | None,
    intensities: Sequence[float] = (), initial: str = "",
) -> RunRecord:  # fmt: skip
    """Write the record of a run that begins or goes on, and copies of it to read.

    The file of versions that an older version of kitsjax left there is removed.

    Args:
        settings: those that the run goes on with.
        split: the run's split.
        cases: the cases of the split, whose files must be those that the run was begun with.
        record: the run's record so far; None for a new run.
        intensities: what all images are normalized by, unless it is each case's own.
        initial: checksum of the model that training starts from; empty for random parameters.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(settings.run.folder)
    # Those of a run that goes on have been compared; to read them again would take as long.
    files = (record.files if record else {}) or list_files(settings, cases)
    is_trained = record is not None and record.stage != "training"
    new = RunRecord(
        # With other settings of prediction its masks are not those of a finished run any more.
        stage="predicting" if is_trained else "training",
        settings=to_toml(settings.without_trace()),
        versions=package_versions(),
        train=list(split.train),
        held_out=list(split.held_out),
        files=files,
        intensities=list(intensities),
        initial=record.initial if record else initial,
        began=(record.began if record else 0.0) or time.time(),
        kept=record.kept if record else None,
        scored=record.scored if record else "",
        postprocess=record.postprocess if record else {},
    )
    write_record(folder, new)
    write_text(folder / _SETTINGS, new.settings)
    write_split(folder / _SPLIT, split)
    remove_file(folder / _VERSIONS)
    return new


def package_versions() -> dict[str, str]:
    """List the versions of the packages that a run's numbers depend on, and the kind of device."""
    versions = {name: version(name) for name in _PACKAGES}
    device = jax.devices()[0]
    return {"python": platform.python_version(), "device": device.device_kind, **versions}


def _read_versions(folder: Path) -> dict[str, str]:
    """Read the versions that an older version of kitsjax wrote to a file of their own."""
    try:
        return {str(k): str(v) for k, v in json.loads((folder / _VERSIONS).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def find_differences(
    one: Settings, other: Settings, but: Collection[str] = ("predict", "run")
) -> list[tuple[str, str, str]]:
    """List the settings that differ and change what a run computes.

    Args:
        one, other: all settings of two runs.
        but: sections that are left out.

    Returns:
        For each setting its name and both values, as TOML in one line.
    """
    different = []
    for section in sorted(set(Settings.model_fields) - set(but)):
        old, new = (_read_meaning(s, section) for s in (one, other))
        for name in old:
            if old[name] != new[name] and f"{section}.{name}" not in _FREE_ON_RESUME:
                values = to_inline_toml(old[name]), to_inline_toml(new[name])
                different.append((f"{section}.{name}", *values))
    return different


def _check_same(stored: Settings, asked: Settings, folder: Path) -> None:
    """Refuse settings that would change what the stored run computes."""
    if different := find_differences(stored, asked):
        began = ", ".join(f"{name} = {old}, not {new}" for name, old, new in different)
        sets = (shlex.quote(f"{name}={old}") for name, old, _ in different)
        remedy = " ".join(f"--set {each}" for each in sets)
        raise InputError(
            f"{folder}: the run was started with {began}; resume it with {remedy}, or choose "
            "another run.folder"
        )


def _read_meaning(settings: Settings, section: str) -> dict[str, Any]:
    """Read the values of a section, with one form for what has several: equal class weights."""
    values = getattr(settings, section).model_dump(mode="json")
    if len(set(values.get("class_weights", ()))) == 1:
        values["class_weights"] = []
    return values
