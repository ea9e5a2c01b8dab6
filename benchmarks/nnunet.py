"""nnU-Net as a peer: its own folders, plans, trainer and preprocessor, without its planner.

Every side and `prepare` that uses nnU-Net begins with `use_folders`, before anything imports
nnunetv2:

    folder/raw           the data set's dataset.json
    folder/preprocessed  plans, and the cases that `preprocess` makes
    folder/results       logs and checkpoints of trainers
    folder/cache         what matplotlib and torch.compile keep, rather than in the home folder
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kitsjax.labels import CLASSES
from kitsjax.types import Shape

DATASET = "Dataset999_Benchmark"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans"
FEATURES = (32, 64, 128, 256, 320, 320)
"""nnU-Net's channels a stage for a patch of 128 cubed: 31.2 million parameters."""

INTENSITIES = {
    "mean": 100.0, "median": 100.0, "std": 75.0, "min": -1024.0, "max": 3071.0,
    "percentile_00_5": -60.0, "percentile_99_5": 310.0,
}  # fmt: skip
"""Of foreground voxels, HU, which nnU-Net normalizes by: round numbers near enhanced kidneys'."""


def use_folders(folder: Path) -> None:
    """Make nnU-Net and what it imports keep to `folder`; to come before nnunetv2 is imported."""
    variables = {"nnUNet_wandb_enabled": "0"}
    for name in ("raw", "preprocessed", "results"):
        (folder / name / DATASET).mkdir(parents=True, exist_ok=True)
        variables[f"nnUNet_{name}"] = str(folder / name)
    for name in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        variables[name] = str(folder / "cache" / name.lower())
    os.environ.update(variables)


def dataset_json(files: Mapping[str, tuple[Path, Path]] | None = None) -> dict[str, Any]:
    """What nnU-Net reads about a data set: one CT channel, the classes of `kitsjax.labels`.

    Args:
        files: image and label of each case by its name, read where they lie; None: no cases.
    """
    cases = {
        name: {"images": [str(image)], "label": str(label)}
        for name, (image, label) in (files or {}).items()
    }
    return {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(CLASSES)},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "dataset": cases,
    }


def plans(
    spacing_mm: float,
    patch_shape: Shape,
    batch_size: int,
    stage_features: tuple[int, ...] = FEATURES,
) -> dict[str, Any]:
    """What nnU-Net's planner would write, for a configuration of our choice.

    Args:
        spacing_mm: isotropic voxel edge that cases are resampled to.
        patch_shape: (z, y, x) in voxels.
        stage_features: channels of each encoder stage, finest first; all but the first stride 2.
    """
    stages = len(stage_features)
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(stage_features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    median_shape = [2 * edge for edge in patch_shape]
    configuration = {
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": list(patch_shape),
        "median_image_size_in_voxels": median_shape,
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture,
        "batch_dice": False,
        **_resampling("data", order=3),
        **_resampling("seg", order=1),
        **_resampling("probabilities", order=1),
    }
    return {
        "dataset_name": DATASET,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": median_shape,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
    }


def _resampling(kind: str, order: int) -> dict[str, Any]:
    # Along all axes alike, as kitsjax does; nnU-Net's own choice would be nearest neighbor between
    # slices more than three times as thick as pixels are wide.
    options = {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": False}
    name = f"resampling_fn_{kind}"
    return {name: "resample_data_or_seg_to_shape", f"{name}_kwargs": options}


def write_dataset(folder: Path, plan: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Put plans and dataset.json where nnU-Net's commands look for them under `folder`."""
    (folder / "raw" / DATASET / "dataset.json").write_text(json.dumps(dataset))
    (folder / "preprocessed" / DATASET / "dataset.json").write_text(json.dumps(dataset))
    (folder / "preprocessed" / DATASET / f"{PLANS}.json").write_text(json.dumps(plan))


def preprocess(workers: int) -> None:
    """nnUNetv2_preprocess on what `write_dataset` wrote: all cases anew, `workers` at a time."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    DefaultPreprocessor(verbose=False).run(DATASET, CONFIGURATION, PLANS, workers)


def build_trainer(
    plan: dict[str, Any],
    dataset: dict[str, Any],
    fold: int | str,
    device: str,
    *,
    compiled: bool = False,
) -> Any:
    """An initialized nnUNetTrainer: network, loss and optimizer.

    Args:
        plan, dataset: `plans` and `dataset_json`.
        fold: "all" trains and validates on all preprocessed cases; none need exist as long as no
            data loader is asked for.
        device: "cpu" or "cuda".
        compiled: torch.compile on the CPU too, where nnU-Net itself never does; on CUDA it always
            does.
    """
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    if device == "cuda":
        # What nnUNetv2_train sets; on the CPU it uses all cores, which OMP_NUM_THREADS says here.
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = True
    trainer = nnUNetTrainer(
        {**plan, "continue_training": False}, CONFIGURATION, fold, dataset, torch.device(device)
    )
    if compiled:
        trainer._do_i_compile = lambda: True
    cases = Path(trainer.preprocessed_dataset_folder)
    cases.mkdir(exist_ok=True)
    if not any(cases.iterdir()):
        # A trainer infers the format of its cases from a file's ending, and does not start without.
        (cases / "none.b2nd").touch()
    trainer.initialize()
    return trainer


def parameters_for_kitsjax(network: Any) -> dict[str, Any]:
    """The parameters of nnU-Net's PlainConvUNet as those of `kitsjax.model.unet.UNet`.

    So both compute the same function, if the UNet has as many heads.

    Returns:
        A tree of float32 NumPy arrays.
    """

    def array(tensor: Any) -> np.ndarray:
        return np.array(tensor.detach().cpu().numpy(), np.float32)

    def block(stage: Any) -> dict[str, dict[str, np.ndarray]]:
        return {
            name: {
                # (o, i, z, y, x) -> (z, y, x, i, o)
                "kernel": array(layer.conv.weight).transpose(2, 3, 4, 1, 0),
                "bias": array(layer.conv.bias),
                "norm_scale": array(layer.norm.weight),
                "norm_bias": array(layer.norm.bias),
            }
            for name, layer in zip(("first", "second"), stage.convs, strict=True)
        }

    encoder, decoder = network.encoder, network.decoder
    found: dict[str, Any] = {
        f"encoder_{n}": block(stage[0]) for n, stage in enumerate(encoder.stages)
    }
    # nnU-Net counts its decoder from the bottom.
    for level, stage in enumerate(reversed(decoder.stages)):
        up, head = decoder.transpconvs[-1 - level], decoder.seg_layers[-1 - level]
        found[f"decoder_{level}"] = block(stage)
        # (i, o, z, y, x) -> (z, y, x, i, o)
        found[f"up_{level}"] = {
            "kernel": array(up.weight).transpose(2, 3, 4, 0, 1),
            "bias": array(up.bias),
        }
        found[f"head_{level}"] = {
            "kernel": array(head.weight)[:, :, 0, 0, 0].T,
            "bias": array(head.bias),
        }
    return found
