"""What each stage of kitsjax costs at a size: `python -m benchmarks.growth_stages`.

Costs are CPU seconds over all threads, which other work on the machine disturbs less than wall
time; the least of a few repetitions.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.material import make_cases
from benchmarks.part import PeakMemory, time_calls
from benchmarks.step import dummy_arrays
from benchmarks.traffic import find_collectives

Costs = dict[str, float]

SECONDS, SENT, MEMORY = "CPU seconds", "MB sent by a device", "peak memory, MiB"

_NETWORK = ("network.features=8", "network.deep_supervision=2")

ORIGINAL = "preprocessed"

PIPELINE_BATCHES = 256
"""Of two patches, so that about every one of 256 cases is visited."""


@dataclass(frozen=True)
class Stage:
    """A stage and the sizes that it is measured at.

    Attributes:
        title: as the figure has it.
        axis: what is counted.
        measure: (folder to write to, parameter) -> (what is counted, costs by name).
        parameters: one a point.
        alone: a process for each point, as it is about devices or memory.
        prepare: makes what `measure` reads in the folder, in a process of its own.
    """

    title: str
    axis: str
    measure: Callable[[Path, int], tuple[float, Costs]]
    parameters: tuple[int, ...]
    alone: bool = False
    prepare: Callable[[Path], None] | None = None


def _resample(folder: Path, edge: int) -> tuple[float, Costs]:
    from kitsjax.image.resample import resample_image

    image = np.random.default_rng(0).standard_normal((edge,) * 3, np.float32)
    shape = (round(0.6 * edge),) * 3
    return edge**3, {SECONDS: _least(lambda: resample_image(image, shape))}


def _preprocess(folder: Path, number: int) -> tuple[float, Costs]:
    from kitsjax.data.kits import find_cases
    from kitsjax.data.update_cache import preprocess_cases
    from kitsjax.settings import PreprocessSettings

    (case,) = find_cases(make_cases(folder, 1, 96))
    cases = [replace(case, case_id=f"case_{n:05d}") for n in range(number)]
    before = _seconds_with_children()
    with TemporaryDirectory(dir=folder) as into:
        report = preprocess_cases(cases, Path(into), PreprocessSettings(spacing_mm=3.0), workers=1)
    assert report.made == number, report
    return number, {SECONDS: _seconds_with_children() - before}


def _score(folder: Path, edge: int) -> tuple[float, Costs]:
    from kitsjax.evaluate.scoring import score
    from kitsjax.image.read_nifti import read_label
    from kitsjax.image.resample import resample_label, resampled_spacing

    truth = read_label(next(make_cases(folder, 1, 192).glob("*/aggregated_MAJ_seg.nii.gz")))
    label = resample_label(truth.array, (edge,) * 3)
    spacing_mm = resampled_spacing(truth.array.shape, truth.spacing_mm, label.shape)
    prediction = np.roll(label, 1, axis=2)
    return edge**3, {SECONDS: _least(lambda: score(prediction, label, spacing_mm))}


def _windows(folder: Path, along: int) -> tuple[float, Costs]:
    import jax
    import optax

    from kitsjax.config import load_settings
    from kitsjax.infer.bundle import make_model
    from kitsjax.infer.predict import predict_label
    from kitsjax.infer.trained_model import stack_models
    from kitsjax.model.unet import build_network
    from kitsjax.train.step import init_state

    settings = load_settings(
        overrides=("sampling.patch_shape=[32, 32, 32]", "network.smallest=8", *_NETWORK)
    )
    network = build_network(settings.network, settings.sampling.patch_shape)
    params = init_state(network, optax.identity(), 0).params
    ensemble = stack_models(make_model(jax.device_get(params), settings))
    image = np.random.default_rng(0).standard_normal((16 * (along + 1),) * 3, np.float32)
    return along**3, {SECONDS: _least(lambda: predict_label(ensemble, image, settings.predict))}


def _step_by_patch(folder: Path, edge: int) -> tuple[float, Costs]:
    return edge**3, {SECONDS: _step(folder, edge, 1, 1)[SECONDS]}


def _step_by_batch(folder: Path, size: int) -> tuple[float, Costs]:
    return size, {SECONDS: _step(folder, 32, size, 1)[SECONDS]}


def _step_by_devices(folder: Path, devices: int) -> tuple[float, Costs]:
    return devices, _step(folder, 32, 8, devices)


def _step(folder: Path, edge: int, batch_size: int, devices: int) -> Costs:
    """A train step of a small network of three stages, its batch shared among forced devices."""
    import jax

    from kitsjax.config import load_settings
    from kitsjax.devices import start_devices
    from kitsjax.train.augment import oversized_shape
    from kitsjax.train.program import build_program, lower_train_step
    from kitsjax.train.sharding import replicate, shard
    from kitsjax.train.step import init_state

    settings = load_settings(
        overrides=(
            f"sampling.patch_shape={[edge] * 3}", f"sampling.batch_size={batch_size}",
            f"network.smallest={edge // 4}", *_NETWORK, f"run.cpu_devices={devices}",
            f"run.compilation_cache={json.dumps(str(folder / 'xla'))}",
        )
    )  # fmt: skip
    start_devices(settings.run, keep_memory=True)
    program = build_program(settings)
    one = init_state(program.network, program.optimizer, 0)
    compiled = lower_train_step(settings, program, one).compile()
    source = oversized_shape(settings.sampling.patch_shape, settings.augment)
    shares = shard(dummy_arrays(source, batch_size, settings.preprocess.dtype), devices)
    state = replicate(one)

    def work() -> None:
        nonlocal state
        state, metrics = program.train_step(state, shares)
        jax.block_until_ready((state, metrics))

    sent = sum(c.bytes for c in find_collectives(compiled.as_text()))
    return {SECONDS: _least(work), SENT: sent / 1e6}


def _prepare_pipeline(folder: Path) -> None:
    from kitsjax.data.kits import find_cases
    from kitsjax.data.make_case import preprocess_case
    from kitsjax.settings import PreprocessSettings

    (case,) = find_cases(make_cases(folder, 1, 192))
    preprocess_case(case, folder / ORIGINAL, PreprocessSettings())
    for n in range(max(STAGES["pipeline"].parameters)):
        link = folder / f"case_{n:05d}"
        if not link.exists():
            link.symlink_to(ORIGINAL, target_is_directory=True)


def _pipeline(folder: Path, number: int) -> tuple[float, Costs]:
    """Peak memory of reading many batches of patches, off links to one preprocessed case."""
    from kitsjax.data.pipeline import batches
    from kitsjax.data.preprocessed_case import PreprocessedCase
    from kitsjax.settings import SamplingSettings

    settings = SamplingSettings(patch_shape=(48, 48, 48), batch_size=2)
    with PeakMemory() as peak:
        cases = [PreprocessedCase(folder / f"case_{n:05d}") for n in range(number)]
        stream = batches(cases, settings, (64, 64, 64), seed=0)
        for _ in range(PIPELINE_BATCHES):
            next(stream)
    return number, {MEMORY: peak.bytes / 2**20}


def _least(work: Callable[[], object]) -> float:
    return min(time_calls(work, repeats=3, cpu=True))


def _seconds_with_children() -> float:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(one)[:2]) for one in who)


STAGES: dict[str, Stage] = {
    "resample": Stage("resampling", "voxels", _resample, (64, 128, 192, 256, 384)),
    "preprocess": Stage("preprocessing", "cases", _preprocess, (8, 16, 32, 64)),
    "score": Stage("scoring", "voxels", _score, (96, 128, 192, 256, 384)),
    "windows": Stage("sliding window", "windows", _windows, (2, 3, 4, 6)),
    "patch": Stage("train step", "voxels of the patch", _step_by_patch, (32, 48, 64, 96)),
    "batch": Stage("train step", "patches of the batch", _step_by_batch, (1, 2, 4, 8)),
    "devices": Stage(
        "train step of 8 patches", "devices forced", _step_by_devices, (1, 2, 4, 8), alone=True
    ),
    "pipeline": Stage(
        "training pipeline", "cases", _pipeline, (4, 16, 64, 256), True, _prepare_pipeline
    ),
}


def measure_points(name: str, folder: Path, parameters: list[int]) -> list[dict[str, Any]]:
    """Rows of a stage at some sizes: stage, axis, size, cost, value; of none: prepare it."""
    stage, rows = STAGES[name], []
    if stage.prepare and not parameters:
        stage.prepare(folder)
    for parameter in parameters:
        size, costs = stage.measure(folder, parameter)
        rows += [
            {"stage": name, "axis": stage.axis, "size": size, "cost": cost, "value": value}
            for cost, value in costs.items()
        ]
    return rows


if __name__ == "__main__":
    # Growth is the same on any machine that has the cores; devices are forced on the host.
    os.environ["JAX_PLATFORMS"] = "cpu"
    result, stage_name, into, *points = sys.argv[1:]
    found = measure_points(stage_name, Path(into), [int(point) for point in points])
    Path(result).write_text(json.dumps(found))
