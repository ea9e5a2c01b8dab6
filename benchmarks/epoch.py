"""An epoch of training against the same steps with nothing beside them: does the device wait?

kitsjax is `kitsjax.train.loop.TrainingLoop` with its pipeline, log and checkpoints, and the seconds
are those that it logs for each epoch. The other contenders give the steps of an epoch to the device
one after another and wait for the last. Their batch lies on the device. That of "steps alone" is
not augmented, so its ratio contains all costs of real data (reading, sending and augmenting it) and
of the loop. "Steps, augmented" augments as the loop does, on the device, which leaves the costs
that the loop could hide behind the steps.
"""

import itertools
import shutil
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.definition import AS_COMMANDS, Benchmark, Contender, Job, Measurement, Size
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
from kitsjax.train.time_account import PARTS
from kitsjax.training_log import LOG_NAME, read_epochs
from kitsjax.types import Shape

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
            train=_train_settings(4, 250, 50),
            run=run,
        )
    return Settings(
        preprocess=PreprocessSettings(spacing_mm=4.0),
        sampling=SamplingSettings(patch_shape=(48, 48, 48), batch_size=2, foreground_fraction=0.5),
        augment=_augment_with(0.1),
        network=NetworkSettings(features=8, max_features=64, deep_supervision=3),
        loss=LossSettings(dice_per_batch=True),
        optimizer=OptimizerSettings(learning_rate=0.5, momentum=0.9, warmup_steps=20),
        # An epoch of a few seconds differs from the next by a tenth, so the median is of many.
        train=_train_settings(10, 20, 4),
        run=run.model_copy(update={"cpu_devices": min(2, job.threads)}),
    )


def _train_settings(epochs: int, batches: int, validation_batches: int) -> TrainSettings:
    # The only checkpoint comes after the last epoch, so none is written while another one runs.
    return TrainSettings(
        epochs=epochs,
        batches=batches,
        validation_batches=validation_batches,
        checkpoint_epochs=epochs,
    )


def _augment_with(probability: float) -> AugmentSettings:
    return AugmentSettings().model_copy(update=dict.fromkeys(_AUGMENTATIONS, probability))


def _prepare(job: Job) -> None:
    from benchmarks.inputs import make_cases
    from kitsjax.data.kits import find_cases
    from kitsjax.data.preprocess_cases import preprocess_cases

    cases = find_cases(make_cases(job.folder, *_CASES[job.size]))
    preprocess_cases(cases, job.folder / "kitsjax", epoch_settings(job).preprocess, job.threads)


def _run_training(job: Job) -> Measurement:
    """Train in a new run folder, and read the seconds of its epochs from its log."""
    from kitsjax.devices import start_devices
    from kitsjax.train.loop import TrainingLoop

    settings = epoch_settings(job)
    start_devices(settings.run, keep_memory=True)
    cases = [PreprocessedCase(folder) for folder in sorted((job.folder / "kitsjax").iterdir())]
    folder = job.folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with PeakMemory() as peak:
        TrainingLoop(settings, folder, cases, cases).fit()
    epochs = read_epochs(folder / LOG_NAME)[1:]  # The first one warms up.

    def median(name: str) -> float:
        return statistics.median(epoch[name] for epoch in epochs)

    return Measurement(
        [epoch["seconds"] for epoch in epochs],
        units=settings.train.batches + settings.train.validation_batches,
        peak_bytes=peak.bytes,
        values={
            **{f"share of time, {part}": median(f"share_{part}") for part in PARTS},
            "patches a second in training": median("patches_per_second"),
        },
    )


def _run_dispatch(augmented: bool, job: Job) -> Measurement:
    """Give the steps of each epoch to the device, and do nothing else."""
    import jax

    from kitsjax.devices import start_devices
    from kitsjax.train.augment import oversized_shape
    from kitsjax.train.program import build_program, first_state
    from kitsjax.train.replication import replicate

    settings = epoch_settings(job)
    if not augmented:
        settings = settings.model_copy(update={"augment": _augment_with(0.0)})
    start_devices(settings.run, keep_memory=True)
    program, train = build_program(settings), settings.train
    patch_shape = settings.sampling.patch_shape
    state = replicate(first_state(settings, program))
    arrays = make_device_batch(settings, oversized_shape(patch_shape, settings.augment))
    patches = make_device_batch(settings, patch_shape)
    del patches["index"]
    # The augmentation of a patch is drawn by its number, so each step gets new ones.
    numbers = _number_patches(settings)
    seconds, result = [], None
    with PeakMemory() as peak:
        for _ in range(train.epochs):
            began = time.perf_counter()
            for index in itertools.islice(numbers, train.batches):
                state, _ = program.train_step(state, arrays | {"index": index})
            for _ in range(train.validation_batches):
                result = program.eval_step(state.kept, patches)
            jax.block_until_ready(result)
            seconds.append(time.perf_counter() - began)
    units = train.batches + train.validation_batches
    return Measurement(seconds[1:], units=units, peak_bytes=peak.bytes)


def _number_patches(settings: Settings) -> Iterator[Any]:
    """Put the numbers of the patches of all batches on the devices, and yield those of each."""
    from kitsjax.train.replication import send

    train, size = settings.train, settings.sampling.batch_size
    all_numbers = np.arange(train.epochs * train.batches * size, dtype=np.int32).reshape(-1, size)
    return iter([send({"index": index})["index"] for index in all_numbers])


def make_device_batch(settings: Settings, shape: Shape) -> dict[str, Any]:
    """Make a dummy batch on the devices, as the training loop sends a batch to them.

    Args:
        settings: they have the number of patches and their type.
        shape: (z, y, x) of a patch.
    """
    from kitsjax.train.replication import send

    return send(make_batch(shape, settings.sampling.batch_size, settings.preprocess.dtype))


BENCHMARK = Benchmark(
    "epoch",
    "an epoch of the training loop against its steps alone, on one batch on the device, and "
    "against the same steps with augmentation; "
    "full: 250 + 50 iterations of 4 patches of 128 cubed, small: 20 + 4 of 2 of 48 cubed; median "
    "of 3 epochs, small: 9, after one that warms up",
    (
        Contender("kitsjax", _run_training, variables=AS_COMMANDS),
        Contender("steps alone", partial(_run_dispatch, False), variables=AS_COMMANDS),
        Contender("steps, augmented", partial(_run_dispatch, True), variables=AS_COMMANDS),
    ),
    # An epoch should take at most 1.05 of the time of its steps.
    goal={"cpu": 1 / 1.05, "gpu": 1 / 1.05},
    prepare=_prepare,
)
