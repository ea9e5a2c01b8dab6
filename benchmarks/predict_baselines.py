"""Prediction by PyTorch with the same parameters: nnU-Net's predictor, MONAI's sliding window."""

import os
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.definition import Job, Measurement
from benchmarks.measure import time_calls
from benchmarks.nnunet import make_dataset, use_folders
from benchmarks.nnunet_plans import CONFIGURATION, make_plans
from benchmarks.predict_task import (
    MIRRORED,
    Task,
    ct_path,
    mask_path,
    measure,
    model_path,
    read_task,
)
from kitsjax.labels import KITS


def run_nnunet(job: Job) -> Measurement:
    """Predict as nnUNetv2_predict does, but in one process, since one file leaves none to overlap.

    The network is compiled on CUDA; nnU-Net's documentation recommends that as an option.
    """
    use_folders(job.folder / "nnunet")
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    device = _start_torch(job, cuda_threads=1)
    task = read_task(job)
    network, layout = _choose_layout(read_network(job, task), task, device)
    manager = PlansManager(_task_plans(task))
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=job.variant == MIRRORED,
        perform_everything_on_device=True, device=device, allow_tqdm=False,
    )  # fmt: skip
    os.environ["nnUNet_compile"] = str(device.type == "cuda")  # noqa: SIM112
    predictor.manual_initialization(
        network, manager, manager.get_configuration(CONFIGURATION), [network.state_dict()],
        make_dataset(), "nnUNetTrainer", (0, 1, 2),
    )  # fmt: skip
    target = mask_path(job, "nnU-Net")
    target.parent.mkdir(exist_ok=True)
    files = [[str(ct_path(job))]], [str(target).removesuffix(".nii.gz")]
    found = measure(job, lambda: predictor.predict_from_files_sequential(*files))
    return _with_device(found, torch, layout)


def run_monai(job: Job) -> Measurement:
    """Predict as MONAI's tutorials do: transforms, inferer, inverse transforms, saved mask."""
    use_folders(job.folder / "nnunet")
    import torch
    from monai.inferers import SlidingWindowInferer

    device = _start_torch(job, cuda_threads=job.threads)
    task = read_task(job)
    network, layout = _choose_layout(read_network(job, task), task, device)
    if device.type == "cuda":
        network = torch.compile(network)
    read, write = _monai_transforms(job, task)
    inferer = SlidingWindowInferer(
        task.patch_shape, sw_batch_size=4, overlap=0.5, mode="gaussian", sigma_scale=0.125,
        cache_roi_weight_map=True,
    )  # fmt: skip

    def work() -> None:
        case = read({"image": str(ct_path(job))})
        with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
            case["pred"] = inferer(case["image"][None].to(device), network)[0].cpu()
        write(case)

    return _with_device(measure(job, work), torch, layout)


def _monai_transforms(job: Job, task: Task) -> tuple[Any, Any]:
    """Build the transforms from the file to the normalized image, and from logits to the mask."""
    from monai import transforms

    low, high, mean, deviation = (
        task.intensities[name] for name in ("percentile_00_5", "percentile_99_5", "mean", "std")
    )
    read = transforms.Compose([
        transforms.LoadImaged("image"),
        transforms.EnsureChannelFirstd("image"),
        # kitsjax's canonical orientation.
        transforms.Orientationd("image", axcodes="IPL"),
        # float32 takes half the memory of the default, float64.
        transforms.Spacingd("image", [task.spacing_mm] * 3, mode="bilinear", dtype=np.float32),
        transforms.ScaleIntensityRanged(
            "image", low, high, (low - mean) / deviation, (high - mean) / deviation, clip=True
        ),
    ])  # fmt: skip
    write = transforms.Compose([
        # The inverse comes after this, since a label map is a quarter of the logits.
        transforms.AsDiscreted("pred", argmax=True),
        transforms.Invertd("pred", transform=read, orig_keys="image", nearest_interp=True),
        transforms.SaveImaged(
            "pred", output_dir=mask_path(job, "MONAI").parent, output_postfix="",
            separate_folder=False, output_dtype=np.uint8, resample=False, print_log=False,
            output_name_formatter=lambda *_: {"subject": job.variant, "idx": None},
        ),
    ])  # fmt: skip
    return read, write


def init_network(task: Task) -> Any:
    """Initialize nnU-Net's network of the task from seed 0, for prediction."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    torch.manual_seed(0)
    architecture = _task_plans(task)["configurations"][CONFIGURATION]["architecture"]
    return get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"],
        architecture["_kw_requires_import"], 1, len(KITS.names), deep_supervision=False,
    ).eval()  # fmt: skip


def read_network(job: Job, task: Task) -> Any:
    """Read the network with the parameters that kitsjax predicts with."""
    import torch

    network = init_network(task)
    network.load_state_dict(torch.load(model_path(job).with_suffix(".pt")))
    return network


def _start_torch(job: Job, cuda_threads: int) -> Any:
    """Set the number of threads, and return the device."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(cuda_threads if device.type == "cuda" else job.threads)
    torch.backends.cudnn.benchmark = True
    return device


def _task_plans(task: Task) -> dict[str, Any]:
    plans = make_plans(task.spacing_mm, task.patch_shape, 2, task.stage_features)
    # Files in KiTS21's layout have slices on the first axis, which ITK reads as the last.
    plans["transpose_forward"] = plans["transpose_backward"] = [2, 1, 0]
    known = plans["foreground_intensity_properties_per_channel"]["0"]
    plans["foreground_intensity_properties_per_channel"] = {"0": known | task.intensities}
    return plans


def _choose_layout(network: Any, task: Task, device: Any) -> tuple[Any, str]:
    """Move a network to the device in the layout of PyTorch's that is faster on a window."""
    import torch

    network = network.to(device)
    window = torch.randn((1, 1, *task.patch_shape), device=device)

    def work() -> None:
        with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
            # Reading a value waits for the device.
            network(window)[0, 0, 0, 0, 0].item()

    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
    seconds = {}
    for name, layout in layouts.items():
        network.to(memory_format=layout)
        seconds[name] = min(time_calls(work, 2))
    best = min(seconds, key=lambda name: seconds[name])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return network.to(memory_format=layouts[best]), best


def _with_device(found: Measurement, torch: Any, layout: str) -> Measurement:
    device_bytes = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return replace(found, device_bytes=device_bytes, values={**found.values, "layout": layout})
