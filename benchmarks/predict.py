"""A CT predicted from its NIfTI file to its mask's, by networks with the same parameters."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.definition import AS_COMMANDS, Benchmark, Contender, Job, Measurement
from benchmarks.hardware import is_installed
from benchmarks.inputs import make_ct
from benchmarks.nnunet import convert_parameters, use_folders
from benchmarks.predict_baselines import init_network, read_network, run_monai, run_nnunet
from benchmarks.predict_task import (
    CT_SHAPE,
    CT_SPACING_MM,
    MIRRORED,
    PLAIN,
    Task,
    ct_path,
    mask_path,
    measure,
    model_path,
    read_task,
    write_task,
)

TIE = 0.1
"""A voxel is near a tie if its two most probable classes differ by less than this."""


def _prepare(job: Job) -> None:
    """Write the CT, and for each variant the task and a model with random parameters."""
    from kitsjax.image.read_nifti import read_volume
    from kitsjax.image.resample import resample_image, resampled_shape

    make_ct(ct_path(job), CT_SHAPE, CT_SPACING_MM)
    volume = read_volume(ct_path(job))

    def resample(spacing_mm: float) -> np.ndarray:
        shape = resampled_shape(volume.array.shape, volume.spacing_mm, spacing_mm)
        return resample_image(volume.array, shape)

    for variant in (PLAIN, MIRRORED):
        _save_model(replace(job, variant=variant), write_task(job, variant, resample))


def _save_model(job: Job, task: Task) -> None:
    """Save a model file for kitsjax and, if nnU-Net is installed, its parameters for PyTorch.

    nnU-Net initializes the parameters then.
    """
    from kitsjax.config import load_settings
    from kitsjax.infer.bundle import save_bundle

    settings = load_settings(
        overrides=(
            f"preprocess.spacing_mm={task.spacing_mm}",
            f"sampling.patch_shape={list(task.patch_shape)}",
            f"network.features={task.features}",
            f"network.max_features={task.max_features}",
            f"network.deep_supervision={len(task.stage_features) - 1}",
        )
    )
    if not is_installed("nnunetv2"):
        import optax

        from kitsjax.model.unet import build_network
        from kitsjax.train.state import init_state

        network = build_network(settings.network, task.patch_shape)
        params = init_state(network, optax.identity(), seed=0).params
    else:
        use_folders(job.folder / "nnunet")
        import torch

        theirs = init_network(task)
        torch.save(theirs.state_dict(), model_path(job).with_suffix(".pt"))
        params = convert_parameters(theirs)
    save_bundle(model_path(job), params, settings, {"benchmark": "random, not trained"})


def _run_kitsjax(job: Job) -> Measurement:
    """Predict as `bin/predict.py` does, but without its compilation cache."""
    import jax

    from kitsjax.config import override_settings
    from kitsjax.devices import start_devices
    from kitsjax.infer.bundle import make_model, read_bundle
    from kitsjax.infer.predict_files import best_cpu_devices, predict_files
    from kitsjax.settings import RunSettings

    start_devices(RunSettings(compilation_cache="", cpu_devices=best_cpu_devices()))
    bundle = read_bundle(model_path(job))
    mirror = str(job.variant == MIRRORED).lower()
    settings = override_settings(bundle.settings, [f"predict.mirror={mirror}"]).predict
    model = make_model(bundle.params, bundle.settings)
    files = [(ct_path(job), mask_path(job, "kitsjax"))]

    def work() -> None:
        failures = predict_files([model], files, settings, progress=False)
        assert not failures, failures

    found = measure(job, work)
    device = jax.devices()[0].memory_stats() or {}
    return replace(found, device_bytes=device.get("peak_bytes_in_use"))


def compare_masks(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Compare two label maps.

    Returns:
        The share of voxels of the same class, and the Dice of the foreground, 1 if both have none.
    """
    same = float(np.mean(ours == theirs))
    foreground = int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs))
    common = int(np.count_nonzero((ours > 0) & (theirs > 0)))
    return same, 2 * common / foreground if foreground else 1.0


def _check(job: Job) -> dict[str, float]:
    """Compare the masks, over all voxels and over those that are not near a tie.

    The logits of one window must agree to rounding. The masks still differ: the baselines average
    logits and kitsjax probabilities; nnU-Net resamples logits to the native grid and MONAI labels
    of linearly resampled images; and a network with random parameters is seldom sure of a voxel,
    so overlapping windows disagree about it.
    """
    from kitsjax.image.read_nifti import read_label

    ours = read_label(mask_path(job, "kitsjax")).array
    _, *baselines = (contender.name for contender in BENCHMARK.contenders_in(job.variant))
    masks = {name: read_label(mask_path(job, name)).array for name in baselines}
    checks: dict[str, float] = {}
    for name, mask in masks.items():
        same, dice = compare_masks(ours, mask)
        checks |= {f"{name}: equal voxels": same, f"{name}: foreground Dice": dice}
    if job.variant == PLAIN:
        sure = _margin(job, ours.shape) >= TIE
        checks["voxels near a tie"] = 1 - float(sure.mean())
        for name, mask in masks.items():
            checks[f"{name}: equal voxels, ties apart"] = float((ours == mask)[sure].mean())
        checks["nnU-Net: difference of a window's logits, sd"] = _logits_difference(job)
    return checks


def _margin(job: Job, native_shape: Sequence[int]) -> np.ndarray:
    """Compute how much more probable each native voxel's class is than the next one."""
    from kitsjax.data.preprocess import preprocess
    from kitsjax.image.read_nifti import read_volume
    from kitsjax.image.resample import resample_nearest
    from kitsjax.infer.bundle import load_model
    from kitsjax.infer.predict import predict_probabilities
    from kitsjax.infer.trained_model import stack_models

    model = load_model(model_path(job))
    image = preprocess(read_volume(ct_path(job)), model.preprocess)
    probabilities = predict_probabilities(stack_models(model), image, model.predict)
    second, first = np.sort(probabilities, axis=0)[-2:]
    return resample_nearest(first - second, native_shape)


def _logits_difference(job: Job) -> float:
    """Compute the networks' largest difference on a window of noise, in standard deviations."""
    import jax
    import torch

    from kitsjax.infer.bundle import read_bundle
    from kitsjax.model.unet import build_network

    task, bundle = read_task(job), read_bundle(model_path(job))
    window = np.random.default_rng(0).normal(size=(1, *task.patch_shape)).astype(np.float32)
    network = build_network(bundle.settings.network, task.patch_shape, "cpu")
    # In float32, since the precision of a GPU's convolutions is not what is compared.
    with jax.default_matmul_precision("highest"):
        ours = np.asarray(jax.jit(network.apply)({"params": bundle.params}, window[..., None])[0])
    with torch.inference_mode():
        theirs = read_network(job, task)(torch.from_numpy(window[None]))
    return float(np.abs(ours - np.moveaxis(theirs.numpy(), 1, -1)).max() / ours.std())


BENCHMARK = Benchmark(
    name="predict",
    work="a CT of 300x512x512 voxels, 3 x 0.8 x 0.8 mm, from NIfTI to a mask in NIfTI; half-patch "
    "windows with Gaussian weights; full: 1.99 mm, windows of 128 cubed, 32 to 320 channels; "
    "small: 4 mm (mirrored: 6 mm), 96 cubed, 8 to 64 channels",
    contenders=(
        Contender("kitsjax", _run_kitsjax, variables=AS_COMMANDS),
        Contender("nnU-Net", run_nnunet, ("torch", "nnunetv2")),
        Contender("MONAI", run_monai, ("torch", "nnunetv2", "monai"), (PLAIN,)),
    ),
    goal={"cpu": 1.0, "gpu": 2.0},
    variants=(PLAIN, MIRRORED),
    prepare=_prepare,
    check=_check,
)
