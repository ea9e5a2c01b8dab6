"""`bin/train.py`: raw cases -> preprocessed cases -> trained model -> scored native masks."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from kitsjax.data.kits import Case
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.data.split import Split
from kitsjax.devices import meet, start_devices
from kitsjax.errors import InputError
from kitsjax.infer.bundle import BUNDLE_NAME, load_model, save_bundle
from kitsjax.infer.predict_files import predict_files
from kitsjax.prepare import DataSet, describe_preparation, prepare_data
from kitsjax.settings import Settings
from kitsjax.train.loop import fit
from kitsjax.train.run_folder import choose_split, open_run, package_versions
from kitsjax.train.signals import Stopped
from kitsjax.train.summary import report_scores


def run(
    settings: Settings,
    *,
    resume: bool = False,
    describe_plan: Callable[..., str] | None = None,
) -> int:
    """The whole run; returns the exit status: 0, 2 if a held-out case failed, 128 + a signal.

    Raises:
        InputError: whatever a user can mend, in one line.
    """
    start_devices(settings.run, keep_memory=True)
    lead = jax.process_index() == 0
    folder = Path(settings.run.folder)
    if lead:
        open_run(settings, resume)
        print(f"run folder: {folder.resolve()}", flush=True)
        data, split = _prepare(settings, folder)
        print(describe_preparation(data), flush=True)
    meet("prepared")
    if not lead:
        # By now everything is on the shared disk, so this only finds it.
        data, split = _prepare(settings, folder)
    training = [PreprocessedCase(data.folder / name) for name in split.train]
    held_out = [PreprocessedCase(data.folder / name) for name in split.held_out]
    try:
        # With nothing held out the training cases are validated on, as in nnU-Net's fold "all".
        params = fit(settings, folder, training, held_out or training, describe_plan=describe_plan)
    except Stopped as stopped:
        print(stopped, flush=True)
        return stopped.status
    if lead:
        save_bundle(folder / BUNDLE_NAME, params, settings, {"versions": package_versions()})
    meet("trained")
    cases = {case.case_id: case for case in data.cases}
    failures = _predict(folder, [cases[name] for name in split.held_out])
    meet("predicted")
    if lead:
        failures += report_scores(
            settings, folder, [cases[n] for n in split.train], [cases[n] for n in split.held_out]
        )
        for message in failures:
            print(f"failed: {message}", file=sys.stderr)
        print(f"model, masks, scores and report/report.html: {folder.resolve()}")
    return 2 if failures else 0


def _predict(folder: Path, held_out: Sequence[Case]) -> list[str]:
    """This process's share of the held-out cases, from the files as `bin/predict.py` has them."""
    share = held_out[jax.process_index() :: jax.process_count()]
    files = [(c.image, folder / "predictions" / f"{c.case_id}.nii.gz") for c in share]
    failures = predict_files(load_model(folder), files) if files else []
    return [message for _, message in failures]


def _prepare(settings: Settings, folder: Path) -> tuple[DataSet, Split]:
    """The preprocessed cases and the run's split of them; a case that failed ends the run."""
    data = prepare_data(settings.data, settings.phantom, settings.preprocess)
    if data.report.failures:
        more = len(data.report.failures) - 1
        others = f" (and {more} more: bin/preprocess.py lists them)" if more else ""
        raise InputError(f"{data.report.failures[0][1]}{others}")
    return data, choose_split(settings, [case.case_id for case in data.cases], folder)
