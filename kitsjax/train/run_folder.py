"""The folder of a run: its settings, package versions and split, and the rules for resuming it."""

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from kitsjax.config import load_settings, to_toml
from kitsjax.data.split import Split, read_split, split_cases, write_split
from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.settings import Settings
from kitsjax.training_log import LOG_NAME

_PACKAGES = (
    "kitsjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy",
    "nibabel",
)  # fmt: skip

_FREE_ON_RESUME = {
    "data.root", "data.cache", "data.make_phantom", "data.workers", "sampling.threads",
    "sampling.prefetch", "network.remat", "network.convolution", "train.checkpoint_epochs",
    "train.threshold_baseline",
}  # fmt: skip
"""Settings that may change when a run is resumed, because they do not change what is computed. All
settings of [predict] and [run] may change too."""


def open_run(settings: Settings, resume: bool) -> Path:
    """Make the run folder, or check that it holds the run to resume.

    With `resume` and no run in the folder, a new run begins, so that a scheduler can repeat one
    command without knowing whether it is the first time. A folder whose run failed before its
    training began, for instance because of a wrong path, holds no run yet.

    Raises:
        InputError: the folder holds a run and `resume` is off, the run's settings differ, or the
            folder cannot be written.
    """
    folder = Path(settings.run.folder)
    stored = folder / "settings.toml"
    begun = (folder / LOG_NAME).exists()
    if not begun and resume:
        print(f"{folder}: nothing to resume, a new run begins")
    if begun and not resume:
        raise InputError(
            f"{folder}: already holds a run; add --resume to go on with it, or choose another "
            "folder with --set run.folder=..."
        )
    if begun:
        _check_same(load_settings(stored), settings, folder)
    write_text(stored, to_toml(settings))
    if not begun:
        (folder / "split.json").unlink(missing_ok=True)
    write_text(folder / "versions.json", json.dumps(package_versions(), indent=1) + "\n")
    return folder


def choose_split(settings: Settings, case_ids: Sequence[str], folder: Path) -> Split:
    """Read the run's split; the first time, choose it and write it to the run folder.

    A new run takes the split in the file `data.split`, or a random one of `train.seed` if no file
    is given.

    Raises:
        InputError: the split file cannot be read or does not fit the cases, or no case is left to
            train on.
    """
    own = folder / "split.json"
    if own.exists():
        return read_split(own, case_ids)
    if settings.data.split:
        split = read_split(settings.data.split, case_ids)
    else:
        split = split_cases(case_ids, settings.data.held_out, settings.train.seed)
    write_split(own, split)
    return split


def package_versions() -> dict[str, str]:
    """List the versions of the packages that a run's numbers depend on, and the kind of device."""
    versions = {name: version(name) for name in _PACKAGES}
    device = jax.devices()[0]
    return {"python": platform.python_version(), "device": device.device_kind, **versions}


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """Collect the provenance of a finished run's model: package versions, split and scores.

    Raises:
        InputError: the run is not finished.
    """
    folder = Path(folder)
    try:
        split = (folder / "split.json").read_bytes()
        versions = json.loads((folder / "versions.json").read_text())
        summary = json.loads((folder / "summary.json").read_text())
        cases = {name: len(case_ids) for name, case_ids in json.loads(split).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise InputError(
            f"{folder}: not a finished run (split.json, versions.json or summary.json is missing "
            "or damaged); go on with it: bin/train.py --resume"
        ) from None
    return {
        "versions": versions,
        "split": {"sha256": hashlib.sha256(split).hexdigest(), **cases},
        "scores": summary,
    }


def _check_same(stored: Settings, asked: Settings, folder: Path) -> None:
    """Refuse settings that would change what the stored run computes."""
    for section in sorted(set(Settings.model_fields) - {"predict", "run"}):
        old, new = getattr(stored, section), getattr(asked, section)
        for name in type(old).model_fields:
            before, now = getattr(old, name), getattr(new, name)
            if before != now and f"{section}.{name}" not in _FREE_ON_RESUME:
                raise InputError(
                    f"{folder}: the run was started with {section}.{name} = {before}, not {now}; "
                    "resume it with its own settings, or choose another run.folder"
                )
