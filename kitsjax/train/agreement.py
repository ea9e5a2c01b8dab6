"""What the hosts of a run compare before they work: a difference is told, where it would hang."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kitsjax.data.cache import annotations_stamp, case_stamp
from kitsjax.data.open_dataset import RawDataset
from kitsjax.data.split import Split, split_text
from kitsjax.errors import InputError, RetryError
from kitsjax.failures import catch
from kitsjax.host_end import AGAIN
from kitsjax.hosts import agree, barrier, host_count, tell_all
from kitsjax.run_lock import LOCK_NAME
from kitsjax.run_record import RECORD_NAME
from kitsjax.settings import Settings
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.run_folder import CHECKPOINTS, package_versions

STALE_SECONDS = 75.0
"""A network disk may show an older state of a folder for so long; NFS does by default for 60 s."""

_OWN_SETTINGS = {
    "data.root", "data.cache", "data.split", "data.workers", "sampling.threads",
    "sampling.prefetch", "run.folder", "run.compilation_cache", "run.coordinator", "run.processes",
    "run.process",
}  # fmt: skip
"""Settings that each host may have for itself. Where they name files, these are compared."""


def agree_on_settings(settings: Settings) -> None:
    """Compare the settings and the versions of packages between all hosts.

    Raises:
        InputError: one differs.
    """
    facts = {
        f"{section}.{name}": value
        for section, values in settings.model_dump(mode="json").items()
        for name, value in values.items()
        if f"{section}.{name}" not in _OWN_SETTINGS
    }
    agree("comparing settings", facts, "start all of them with the same settings")
    versions = {f"the version of {name}": text for name, text in package_versions().items()}
    agree("comparing versions", versions, "install the same packages on all of them")


def agree_on_folder(folder: Path) -> None:
    """Wait until all hosts see the run folder of the main process, as it is now.

    The main process has just written its lock there.

    Raises:
        InputError: another host does not see the lock, so its folder is another one.
        RetryError: another host sees the lock, but another record or other checkpoints.
    """
    if host_count() == 1:
        return
    main_view = json.loads(tell_all("locking the run folder", json.dumps(_look_at(folder))))
    comes_true(lambda: _look_at(folder) == main_view)
    own_view = _look_at(folder)
    different = next((name for name in main_view if own_view[name] != main_view[name]), "")
    if different == LOCK_NAME:
        raise InputError(
            f"{folder.resolve()}: is not the run folder that host 0 writes to; put run.folder on a "
            "disk that all hosts share, mounted on each"
        )
    if different:
        raise RetryError(
            f"{folder.resolve() / different}: the disk shows another state than on host 0, still "
            f"after {STALE_SECONDS:.0f} s; {AGAIN}"
        )
    barrier("comparing the run folder", 600.0)


def agree_on_data(found: RawDataset, annotations: bool = False) -> None:
    """Compare the labels, and the names, sizes and times of all cases' files, between all hosts.

    Args:
        found: the data set.
        annotations: whether the individual annotations are needed, too.

    Raises:
        InputError: they differ.
    """
    facts: dict[str, Any] = {
        "the number of cases": len(found.cases),
        "the labels": list(found.scheme.names) if found.scheme else [],
        "the value to ignore": found.scheme.ignore if found.scheme else None,
    }
    for case in found.cases:
        stamps = [catch(case_stamp, case)]
        if annotations:
            stamps.append(catch(annotations_stamp, case))
        # Preprocessing tells what is wrong with a case.
        known = [stamp if isinstance(stamp, str) else None for stamp in stamps]
        facts[f"the files of {case.case_id}"] = known
    advice = (
        f"{found.root} must be the same data on all hosts: a disk that they share, or copies with "
        "their times (rsync -a)"
    )
    agree("comparing the data", facts, advice)


def agree_on_start(split: Split, intensities: Sequence[float], trained: bool) -> None:
    """Compare between all hosts what they have found before training begins.

    Raises:
        InputError: the split, the intensities, or whether training is done differs.
    """
    facts = {
        "the split": _hash(split_text(split).encode()),
        "preprocess.intensities": list(intensities),
        "whether training is done": trained,
    }
    agree("comparing the split", facts, "give all of them the same data and split file")


def agree_on_progress(progress: Progress, initial: str) -> None:
    """Compare the step that each host resumes at, or the model that it starts from.

    Raises:
        RetryError: the step differs: the disk shows other checkpoints on some host.
        InputError: the model differs.
    """
    facts = {"the step that they resume at": progress.step, "the epochs done": progress.epoch}
    agree("comparing checkpoints", facts, AGAIN, RetryError)
    model = {"the checksum of the model train.init_from": initial}
    agree("comparing the first parameters", model, "give all of them the same model")


def comes_true(true: Callable[[], bool]) -> bool:
    """Wait until something is true on this host's view of the disk; False: it never was."""
    until = time.monotonic() + STALE_SECONDS
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _look_at(folder: Path) -> dict[str, Any]:
    """Return what this host sees in a run folder: hashes of two files, names of checkpoints."""
    return {
        LOCK_NAME: _hash_file(folder / LOCK_NAME),
        RECORD_NAME: _hash_file(folder / RECORD_NAME),
        CHECKPOINTS: sorted(path.name for path in (folder / CHECKPOINTS).glob("[0-9]*")),
    }


def _hash_file(path: Path) -> str:
    """Hash a file; empty if there is none."""
    try:
        return _hash(path.read_bytes())
    except OSError:
        return ""


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
