"""The plans file of nnU-Net, for a configuration of our choice instead of its planner's."""

from typing import Any

from kitsjax.types import Shape

DATASET = "Dataset999_Benchmark"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans"

FEATURES = (32, 64, 128, 256, 320, 320)
"""nnU-Net's stages have these channels for a patch of 128 cubed, and 31.2 million parameters."""

INTENSITIES = {
    "mean": 100.0, "median": 100.0, "std": 75.0, "min": -1024.0, "max": 3071.0,
    "percentile_00_5": -60.0, "percentile_99_5": 310.0,
}  # fmt: skip
"""nnU-Net normalizes by these statistics of foreground voxels, in HU. They are round numbers near
those of enhanced kidneys."""


def make_plans(
    spacing_mm: float,
    patch_shape: Shape,
    batch_size: int,
    stage_features: tuple[int, ...] = FEATURES,
) -> dict[str, Any]:
    """Make the content of a plans file.

    Args:
        spacing_mm: voxel edge, along all axes, that cases are resampled to.
        patch_shape: (z, y, x) in voxels.
        stage_features: channels of each encoder stage, the finest first. Every stage but the
            first has a stride of 2.
    """
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
        "architecture": _architecture(stage_features),
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


def _architecture(stage_features: tuple[int, ...]) -> dict[str, Any]:
    stages = len(stage_features)
    return {
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


def _resampling(kind: str, order: int) -> dict[str, Any]:
    # All axes are resampled together, as kitsjax does. nnU-Net would choose the nearest neighbor
    # between slices that are more than three times as thick as pixels are wide.
    options = {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": False}
    name = f"resampling_fn_{kind}"
    return {name: "resample_data_or_seg_to_shape", f"{name}_kwargs": options}
