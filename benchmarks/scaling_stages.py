"""The stages of kitsjax and their costs: `python -m benchmarks.scaling_stages` measures one.

The time of a stage is the CPU time of all threads, the least of a few repetitions, since other
programs disturb it less than wall time.
"""

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import numpy as np

from benchmarks.communication import find_collectives
from benchmarks.dummy_data import make_batch
from benchmarks.inputs import make_cases
from benchmarks.measure import PeakMemory, time_calls

Costs = dict[str, float]
"""The costs of a stage at one size, by name and unit."""

SECONDS, SENT, MEMORY = "CPU seconds", "MB sent by a device", "peak memory, MiB"

_NETWORK = ("network.features=8", "network.deep_supervision=2")

_LINKED_CASE = "preprocessed"

# A batch has two patches, so almost every one of 256 cases is read.
_PIPELINE_BATCHES = 256


@dataclass(frozen=True)
class Stage:
    """A stage and the sizes that it is measured at.

    Attributes:
        title: its name in the figure.
        axis: what its size counts.
        measure: takes the folder of inputs and a parameter; returns the size and the costs.
        parameters: one for each point of the curve.
        alone: measure each point in a process of its own, for devices or memory.
        prepare: writes the inputs into the folder, in a process of its own.
    """

    title: str
    axis: str
    measure: Callable[[Path, int], tuple[float, Costs]]
    parameters: tuple[int, ...]
    alone: bool = False
    prepare: Callable[[Path], None] | None = None


class Point(TypedDict):
    """One cost of a stage at one size, as `scaling.json` has it."""

    stage: str
    axis: str
    size: float
    cost: str
    value: float


def _resample(folder: Path, edge: int) -> tuple[float, Costs]:
    from kitsjax.image.resample import resample_image

    image = np.random.default_rng(0).standard_normal((edge,) * 3, np.float32)
    shape = (round(0.6 * edge),) * 3
    return edge**3, {SECONDS: _least(lambda: resample_image(image, shape))}


def _preprocess(folder: Path, number: int) -> tuple[float, Costs]:
    from kitsjax.data.kits import find_cases
    from kitsjax.data.preprocess_cases import preprocess_cases
    from kitsjax.settings import PreprocessSettings

    (case,) = find_cases(make_cases(folder, 1, 96))
    cases = [replace(case, case_id=f"case_{n:05d}") for n in range(number)]
    before = _seconds_with_children()
    with TemporaryDirectory(dir=folder) as temporary:
        settings = PreprocessSettings(spacing_mm=3.0)
        report = preprocess_cases(cases, Path(temporary), settings, workers=1)
    assert report.made == number, report
    return number, {SECONDS: _seconds_with_children() - before}


def _score(folder: Path, edge: int) -> tuple[float, Costs]:
    from kitsjax.evaluate.score_volumes import score
    from kitsjax.image.read_nifti import read_label
    from kitsjax.image.resample import resample_nearest, resampled_spacing

    truth = read_label(next(make_cases(folder, 1, 192).glob("*/aggregated_MAJ_seg.nii.gz")))
    label = resample_nearest(truth.array, (edge,) * 3)
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
    from kitsjax.train.state import init_state

    settings = load_settings(
        overrides=("sampling.patch_shape=[32, 32, 32]", "network.smallest=8", *_NETWORK)
    )
    network = build_network(settings.network, settings.sampling.patch_shape)
    params = init_state(network, optax.identity(), 0).params
    ensemble = stack_models(make_model(jax.device_get(params), settings))
    # Windows of 32 overlap by half, so an axis of 16 (n + 1) voxels has n of them.
    image = np.random.default_rng(0).standard_normal((16 * (along + 1),) * 3, np.float32)
    return along**3, {SECONDS: _least(lambda: predict_label(ensemble, image, settings.predict))}


def _step_by_patch(folder: Path, edge: int) -> tuple[float, Costs]:
    return edge**3, {SECONDS: _step(folder, edge, 1, 1)[SECONDS]}


def _step_by_batch(folder: Path, size: int) -> tuple[float, Costs]:
    return size, {SECONDS: _step(folder, 32, size, 1)[SECONDS]}


def _step_by_devices(folder: Path, devices: int) -> tuple[float, Costs]:
    return devices, _step(folder, 32, 8, devices)


def _step(folder: Path, edge: int, batch_size: int, devices: int) -> Costs:
    """Measure a train step of a small network, its batch divided among forced host devices."""
    import jax

    from kitsjax.config import load_settings
    from kitsjax.devices import start_devices
    from kitsjax.train.augment import oversized_shape
    from kitsjax.train.program import build_program, first_state, lower_train_step
    from kitsjax.train.replication import replicate, shard

    settings = load_settings(
        overrides=(
            f"sampling.patch_shape={[edge] * 3}", f"sampling.batch_size={batch_size}",
            # Three stages at every patch size.
            f"network.smallest={edge // 4}", *_NETWORK, f"run.cpu_devices={devices}",
            f"run.compilation_cache={json.dumps(str(folder / 'xla'))}",
        )
    )  # fmt: skip
    start_devices(settings.run, keep_memory=True)
    program = build_program(settings)
    one = first_state(settings, program)
    compiled = lower_train_step(settings, program, one).compile()
    oversized = oversized_shape(settings.sampling.patch_shape, settings.augment)
    batch = shard(make_batch(oversized, batch_size, settings.preprocess.dtype), devices)
    state = replicate(one)

    def work() -> None:
        nonlocal state
        state, metrics = program.train_step(state, batch)
        jax.block_until_ready((state, metrics))

    sent = sum(c.bytes for c in find_collectives(compiled.as_text()))
    return {SECONDS: _least(work), SENT: sent / 1e6}


def _prepare_pipeline(folder: Path) -> None:
    """Preprocess one case, and link to it under the name of every case."""
    from kitsjax.data.kits import find_cases
    from kitsjax.data.preprocess_case import preprocess_case
    from kitsjax.settings import PreprocessSettings

    (case,) = find_cases(make_cases(folder, 1, 192))
    preprocess_case(case, folder / _LINKED_CASE, PreprocessSettings())
    for n in range(max(STAGES["pipeline"].parameters)):
        (folder / f"case_{n:05d}").symlink_to(_LINKED_CASE, target_is_directory=True)


def _pipeline(folder: Path, number: int) -> tuple[float, Costs]:
    """Measure the peak memory of reading many batches from the linked cases."""
    from kitsjax.data.pipeline import batches
    from kitsjax.data.preprocessed_case import PreprocessedCase
    from kitsjax.settings import PreprocessSettings, SamplingSettings

    settings = SamplingSettings(patch_shape=(48, 48, 48), batch_size=2)
    with PeakMemory() as peak:
        cases = [PreprocessedCase(folder / f"case_{n:05d}") for n in range(number)]
        stream = batches(cases, settings, (64, 64, 64), preprocess=PreprocessSettings(), seed=0)
        for _ in range(_PIPELINE_BATCHES):
            next(stream)
    return number, {MEMORY: peak.bytes / 2**20}


def _least(work: Callable[[], object]) -> float:
    return min(time_calls(work, repeats=3, cpu=True))


def _seconds_with_children() -> float:
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(process)[:2]) for process in processes)


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


def measure_points(name: str, folder: Path, parameters: list[int]) -> list[Point]:
    """Measure a stage at some sizes; without any, prepare it and return no points."""
    stage, points = STAGES[name], []
    if stage.prepare and not parameters:
        stage.prepare(folder)
    for parameter in parameters:
        size, costs = stage.measure(folder, parameter)
        points += [
            Point(stage=name, axis=stage.axis, size=size, cost=cost, value=value)
            for cost, value in costs.items()
        ]
    return points


if __name__ == "__main__":
    result, stage_name, inputs, *texts = sys.argv[1:]
    found = measure_points(stage_name, Path(inputs), [int(text) for text in texts])
    Path(result).write_text(json.dumps(found))
