"""An epoch of training on real data against one on dummy data: does the device wait for data?

Both contenders are `kitsjax.train.loop.TrainingLoop` with its log and checkpoints, and the seconds
are those that it logs for each epoch. The dummy batch lies on the device and is not augmented, so
the ratio contains all costs of real data: reading, sending and augmenting it.
"""

import shutil
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from benchmarks.definition import Benchmark, Contender, Job, Measurement, Size
from benchmarks.dummy_data import make_batch
from benchmarks.measure import PeakMemory
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
"""The first epoch warms up and is not counted."""

_AUGMENTATIONS = ("mirror", "rotate", "scale", "brightness", "contrast", "gamma")


class _Cases(NamedTuple):
    number: int
    matrix: int


_CASES: dict[Size, _Cases] = {"small": _Cases(6, 96), "full": _Cases(16, 256)}


def epoch_settings(job: Job) -> Settings:
    """Make settings with the sections of configs/kits21.toml, or of configs/phantom.toml if small.

    The number of iterations and all that is about the run are the benchmark's own. Cases are
    normalized by their own numbers, whatever the configuration takes: patches are read as fast.
    """
    run = RunSettings(compilation_cache=str(job.folder / "xla"))
    if job.size == "full":
        return Settings(
            sampling=SamplingSettings(threads=min(8, job.threads)),
            network=NetworkSettings(max_features=320),
            train=_train_settings(250, 50),
            run=run,
        )
    return Settings(
        preprocess=PreprocessSettings(spacing_mm=4.0),
        sampling=SamplingSettings(patch_shape=(48, 48, 48), batch_size=2, foreground_fraction=0.5),
        augment=_augment_with(0.1),
        network=NetworkSettings(features=8, max_features=64, deep_supervision=3),
        loss=LossSettings(dice_per_batch=True),
        optimizer=OptimizerSettings(learning_rate=0.5, momentum=0.9, warmup_steps=20),
        train=_train_settings(20, 4),
        run=run.model_copy(update={"cpu_devices": min(2, job.threads)}),
    )


def _train_settings(batches: int, validation_batches: int) -> TrainSettings:
    # The only checkpoint comes after the last epoch, so none is written while another one runs.
    return TrainSettings(
        epochs=EPOCHS,
        batches=batches,
        validation_batches=validation_batches,
        checkpoint_epochs=EPOCHS,
    )


def _augment_with(probability: float) -> AugmentSettings:
    return AugmentSettings().model_copy(update=dict.fromkeys(_AUGMENTATIONS, probability))


def _prepare(job: Job) -> None:
    from benchmarks.inputs import make_cases
    from kitsjax.data.kits import find_cases
    from kitsjax.data.preprocess_cases import preprocess_cases

    cases = find_cases(make_cases(job.folder, *_CASES[job.size]))
    preprocess_cases(cases, job.folder / "kitsjax", epoch_settings(job).preprocess, job.threads)


def _run_real(job: Job) -> Measurement:
    return _run(job, epoch_settings(job), "real")


def _run_dummy(job: Job) -> Measurement:
    settings = epoch_settings(job)
    settings = settings.model_copy(update={"augment": _augment_with(0.0)})

    def open_streams(settings: Settings, *_: Any) -> tuple[Iterator[Any], Iterator[Any]]:
        batch = make_device_batch(settings)
        return repeat(batch), repeat(batch)

    return _run(job, settings, "dummy", open_streams)


def make_device_batch(settings: Settings) -> dict[str, Any]:
    """Make a dummy batch as the pipeline's stream would yield it, but on the device."""
    import jax

    sampling = settings.sampling
    arrays = make_batch(sampling.patch_shape, sampling.batch_size, settings.preprocess.dtype)
    return jax.device_put(arrays | {"case": np.zeros(sampling.batch_size, np.int32)})


def _run(
    job: Job, settings: Settings, name: str, open_streams: Callable[..., Any] | None = None
) -> Measurement:
    """Train in a new run folder, and read the seconds of its epochs from its log."""
    from kitsjax.devices import start_devices
    from kitsjax.train.loop import TrainingLoop

    start_devices(settings.run, keep_memory=True)
    cases = [PreprocessedCase(folder) for folder in sorted((job.folder / "kitsjax").iterdir())]
    folder = job.folder / f"run-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with PeakMemory() as peak:
        TrainingLoop(settings, folder, cases, cases).fit(open_streams)
    epochs = read_epochs(folder / LOG_NAME)[1:]
    waits = [epoch["data_wait"] for epoch in epochs]
    rates = [epoch["patches_per_second"] for epoch in epochs]
    return Measurement(
        [epoch["seconds"] for epoch in epochs],
        units=settings.train.batches + settings.train.validation_batches,
        peak_bytes=peak.bytes,
        values={
            "share of time waiting for data": float(np.mean(waits)),
            "patches a second in training": float(np.median(rates)),
        },
    )


BENCHMARK = Benchmark(
    "epoch",
    "an epoch with sampling and augmentation against one fixed batch on the device; "
    "full: 250 + 50 iterations of 4 patches of 128 cubed, small: 20 + 4 of 2 of 48 cubed",
    (Contender("kitsjax", _run_real), Contender("dummy data", _run_dummy)),
    # An epoch on real data should take at most 1.05 of the time on dummy data.
    goal={"cpu": 1 / 1.05, "gpu": 1 / 1.05},
    prepare=_prepare,
)
