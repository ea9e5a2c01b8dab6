"""Epochs of training on real data against the same on dummy data: whether the device ever waits.

Both sides are `kitsjax.train.loop.TrainingLoop`, with its tracker and checkpoints, and the seconds
are what it logs of each epoch. The dummy side's batch lies on the device and is not augmented, so that the
ratio holds all that real data costs: reading, sending and augmenting.
"""

import shutil
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.part import Job, Measurement, Part, PeakMemory, Side, Size
from benchmarks.step import dummy_arrays
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.settings import (
    AugmentSettings,
    LossSettings,
    NetworkSettings,
    OptimizerSettings,
    PreprocessSettings,
    RunSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)
from kitsjax.training_log import LOG_NAME, read_epochs

EPOCHS = 4
"""The first warms up."""

_SILENT = dict.fromkeys(("mirror", "rotate", "scale", "brightness", "contrast", "gamma"), 0.0)


class _Cases(NamedTuple):
    number: int
    matrix: int


_CASES: dict[Size, _Cases] = {"small": _Cases(6, 96), "full": _Cases(16, 256)}


def epoch_settings(job: Job) -> Settings:
    """configs/kits21.toml's network and batch in full, configs/phantom.toml's on a CPU."""
    run = RunSettings(compilation_cache=str(job.folder / "xla"))
    if job.size == "full":
        return Settings(
            sampling=SamplingSettings(threads=min(8, job.threads)),
            network=NetworkSettings(max_features=320),
            train=_train(250, 50),
            run=run,
        )
    tenth = dict.fromkeys(_SILENT, 0.1)
    return Settings(
        preprocess=PreprocessSettings(spacing_mm=4.0),
        sampling=SamplingSettings(patch_shape=(48, 48, 48), batch_size=2, foreground_fraction=0.5),
        augment=AugmentSettings().model_copy(update=tenth),
        network=NetworkSettings(features=8, max_features=64, deep_supervision=3),
        loss=LossSettings(dice_per_batch=True),
        optimizer=OptimizerSettings(learning_rate=0.5, momentum=0.9, warmup_steps=20),
        train=_train(20, 4),
        run=run.model_copy(update={"cpu_devices": min(2, job.threads)}),
    )


def _train(batches: int, validation_batches: int) -> TrainSettings:
    # A checkpoint is written in the background while the next epoch runs: of these, none.
    return TrainSettings(
        epochs=EPOCHS,
        batches=batches,
        validation_batches=validation_batches,
        checkpoint_epochs=EPOCHS,
    )


def _prepare(job: Job) -> None:
    from benchmarks.material import make_cases
    from kitsjax.data.kits import find_cases
    from kitsjax.data.update_cache import preprocess_cases

    cases = find_cases(make_cases(job.folder, *_CASES[job.size]))
    preprocess_cases(cases, job.folder / "kitsjax", epoch_settings(job).preprocess, job.threads)


def _run_real(job: Job) -> Measurement:
    return _run(job, epoch_settings(job), "real")


def _run_dummy(job: Job) -> Measurement:
    settings = epoch_settings(job)
    silent = settings.augment.model_copy(update=_SILENT)

    def streams(settings: Settings, *_: Any) -> tuple[Iterator[Any], Iterator[Any]]:
        batch = dummy_batch(settings)
        return repeat(batch), repeat(batch)

    return _run(job, settings.model_copy(update={"augment": silent}), "dummy", streams)


def dummy_batch(settings: Settings) -> dict[str, Any]:
    """A batch as the loop's stream yields it, of noise, already on the device."""
    import jax

    sampling = settings.sampling
    arrays = dummy_arrays(sampling.patch_shape, sampling.batch_size, settings.preprocess.dtype)
    return jax.device_put(arrays | {"case": np.zeros(sampling.batch_size, np.int32)})


def _run(
    job: Job, settings: Settings, name: str, streams: Callable[..., Any] | None = None
) -> Measurement:
    """Train for `EPOCHS` in a new run folder, and read what the run says of them."""
    from kitsjax.devices import start_devices
    from kitsjax.train.loop import TrainingLoop

    start_devices(settings.run, keep_memory=True)
    cases = [PreprocessedCase(folder) for folder in sorted((job.folder / "kitsjax").iterdir())]
    folder = job.folder / f"run-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with PeakMemory() as peak:
        TrainingLoop(settings, folder, cases, cases).fit(streams)
    epochs = logged_epochs(folder)[1:]
    train = settings.train
    return Measurement(
        [epoch["seconds"] for epoch in epochs],
        units=train.batches + train.validation_batches,
        peak_bytes=peak.bytes,
        values={
            "share of time waiting for data": float(np.mean([e["data_wait"] for e in epochs])),
            "patches a second in training": float(
                np.median([e["patches_per_second"] for e in epochs])
            ),
        },
    )


def logged_epochs(folder: Path) -> list[dict[str, Any]]:
    """The rows a run logged of its epochs, in order."""
    return read_epochs(folder / LOG_NAME)


PART = Part(
    "epoch",
    "an epoch with sampling and augmentation against one fixed batch on the device; "
    "full: 250 + 50 iterations of 4 patches of 128 cubed, small: 20 + 4 of 2 of 48 cubed",
    (Side("kitsjax", _run_real), Side("dummy data", _run_dummy)),
    # At most 1.05 of the dummy data's time.
    goal={"cpu": 1 / 1.05, "gpu": 1 / 1.05},
    prepare=_prepare,
)
