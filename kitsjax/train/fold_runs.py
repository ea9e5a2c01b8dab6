"""Cross-validation: the runs of the folds, each in a folder of its own, one after another."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from kitsjax.config import parse_stored_settings
from kitsjax.data.folds import count_folds, fold_folder
from kitsjax.devices import start_devices
from kitsjax.errors import RETRY_STATUS, USAGE_STATUS, InputError
from kitsjax.failures import catch, describe_failure
from kitsjax.host_watch import HostWatch, end_together
from kitsjax.hosts import host_count, is_main, tell_all
from kitsjax.infer.bundle import read_bundle
from kitsjax.infer.postprocess import keep_choice
from kitsjax.infer.trained_model import FREE_PREDICT
from kitsjax.prepare import find_data
from kitsjax.run_record import RunRecord, read_record
from kitsjax.settings import Settings
from kitsjax.signals import Stopped
from kitsjax.train.fold_results import remove_fold_results, write_fold_results
from kitsjax.train.make_loop import DescribeRun
from kitsjax.train.run import describe_stop, run_together
from kitsjax.train.run_folder import ELSEWHERE, find_differences, open_run
from kitsjax.train.summary import hash_scored

ALL = "all"
"""What --fold takes for all folds."""

_MAY_DIFFER = {
    "data.fold", "data.held_out", "train.init_from", "train.seed",
    *(f"predict.{name}" for name in FREE_PREDICT),
}  # fmt: skip
"""Settings in which folds may differ whose scores are put together."""


def run_folds(
    settings: Settings, which: str, *, resume: bool = False, describe_run: DescribeRun | None = None
) -> int:
    """Train one fold or all of them; once all are finished, write the scores of all cases.

    Each fold is a run like any other in `run.folder`/fold_K; one that is finished is skipped. A
    fold that fails does not end the others, but for several hosts, which end together.

    Args:
        settings: all settings of the runs, but for the fold.
        which: a number from 0, or "all".
        resume: go on with the runs that are there.
        describe_run: see `run.run`.

    Returns:
        The exit status, the same on all hosts: 0, 2 if something failed, or 75 if the same command
        may mend it.

    Raises:
        InputError, RetryError, Stopped: as `run.run` does; where all folds are trained by a single
            host, only what concerns all of them.
    """
    runs = [_choose_fold(settings, fold) for fold in _list_folds(settings, which)]
    if read_record(settings.run.folder):
        raise InputError(
            f"{settings.run.folder}: holds a run without folds, whose scores those of all folds "
            f"would replace; {ELSEWHERE}"
        )
    if not resume:
        for own in runs:
            open_run(own, resume)
    start_devices(settings.run, keep_memory=True)
    present = runs[0]

    def work(watch: HostWatch | None) -> list[int]:
        nonlocal present
        statuses: list[int] = []
        for present in runs:
            statuses.append(_run_fold(present, which, resume, describe_run, watch))
        status = _write_results(settings) if is_main() else 0
        return [*statuses, int(tell_all("writing the results of all folds", str(status)))]

    try:
        statuses = end_together(work)
    except Stopped as stopped:
        text = stopped.find_text() or describe_stop(Path(present.run.folder))
        raise Stopped(stopped.number, f"fold {present.data.fold}: {text}") from None
    return RETRY_STATUS if RETRY_STATUS in statuses else max(statuses)


def _list_folds(settings: Settings, which: str) -> Iterable[int]:
    """List the folds to train.

    Raises:
        InputError: there are no folds, no such fold, or the settings are those of one already.
    """
    if settings.data.fold >= 0:
        raise InputError(
            f"--fold {which}: the settings are those of fold {settings.data.fold}; leave out --fold"
        )
    count = count_folds(settings.data)
    if which == ALL:
        return range(count)
    if not (which.isdecimal() and int(which) < count):
        given = which or "''"
        raise InputError(f"--fold {given}: give a fold from 0 to {count - 1}, or {ALL}")
    return [int(which)]


def _choose_fold(settings: Settings, fold: int) -> Settings:
    """Return the settings of a fold's run."""
    folder = str(fold_folder(settings.run.folder, fold))
    data = settings.data.model_copy(update={"fold": fold})
    run = settings.run.model_copy(update={"folder": folder})
    return settings.model_copy(update={"data": data, "run": run})


def _run_fold(
    settings: Settings,
    which: str,
    resume: bool,
    describe_run: DescribeRun | None,
    watch: HostWatch | None,
) -> int:
    """Train a fold if it is not finished, and return its exit status."""
    fold, folder = settings.data.fold, Path(settings.run.folder)
    if is_main():
        print(f"\nfold {fold}", flush=True)
    if which != ALL or host_count() > 1:
        return _go_on(settings, resume, describe_run, watch)
    status = catch(_go_on, settings, resume, describe_run, watch)
    if isinstance(status, InputError):
        print(f"failed: fold {fold}: {describe_failure(status, folder, folder)}", file=sys.stderr)
        return status.status
    return status


def _go_on(
    settings: Settings, resume: bool, describe_run: DescribeRun | None, watch: HostWatch | None
) -> int:
    done = resume and is_main() and _is_finished(settings)
    if tell_all(f"looking at fold {settings.data.fold}", str(done)) == str(True):
        if is_main():
            print(f"finished, and skipped: {settings.run.folder}")
        return 0
    return run_together(settings, resume, describe_run, watch)


def _is_finished(settings: Settings) -> bool:
    """Tell whether a fold's run is finished by these settings of prediction and the present files.

    Its model file must be whole; masks, scores and true labels must be those of its record.

    Raises:
        InputError: the run was begun with other settings.
    """
    record = open_run(settings, resume=True)
    if record is None or record.stage != "finished":
        return False
    stored = parse_stored_settings(record.settings, f"{settings.run.folder}, its settings")
    if stored.predict != settings.predict:
        return False
    if isinstance(catch(read_bundle, settings.run.folder), InputError):
        return False
    if not record.held_out:
        return True
    cases = find_data(settings.data, settings.phantom).cases
    held_out = [case for case in cases if case.case_id in record.held_out]
    folder = Path(settings.run.folder)
    return record.scored == hash_scored(settings, folder, held_out)


def _write_results(settings: Settings) -> int:
    """Write the scores of all cases if all folds are finished; return the exit status.

    Otherwise those of an earlier time are removed, since they may not be of the present masks.
    """
    folder, count = Path(settings.run.folder), count_folds(settings.data)
    records = [read_record(fold_folder(folder, fold)) for fold in range(count)]
    finished = [record for record in records if record and record.stage == "finished"]
    print(f"\n{len(finished)} of {count} folds are finished: {folder.resolve()}", flush=True)
    if len(finished) < count:
        remove_fold_results(folder)
        return 0
    if difference := catch(_find_difference, folder, finished):
        print(f"their scores are not put together: {difference}")
        remove_fold_results(folder)
        return 0
    failures = write_fold_results(folder, finished)
    for message in failures:
        print(f"failed: {message}", file=sys.stderr)
    return USAGE_STATUS if failures else 0


def _find_difference(folder: Path, records: Sequence[RunRecord]) -> str:
    """Say what differs in how the folds were trained or predict; empty if nothing does.

    Raises:
        InputError: the model file of a fold cannot be read.
    """
    first, *others = (
        _read_settings(fold_folder(folder, fold), record) for fold, record in enumerate(records)
    )
    for fold, other in enumerate(others, start=1):
        for name, one, another in find_differences(first, other, ("run",)):
            if name not in _MAY_DIFFER:
                return (
                    f"{name} is {one} in fold 0 and {another} in fold {fold}; --fold all --resume "
                    "brings all to one [predict], bin/postprocess.py --apply of all folds to one "
                    "choice, and other settings need folds of their own"
                )
    return ""


def _read_settings(folder: Path, record: RunRecord) -> Settings:
    """Return the settings of a finished fold, with what was chosen for its model."""
    settings = parse_stored_settings(record.settings, f"{folder}, its settings")
    predict = keep_choice(settings.predict, read_bundle(folder).provenance)
    return settings.model_copy(update={"predict": predict})
