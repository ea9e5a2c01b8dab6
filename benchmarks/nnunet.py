"""nnU-Net as a baseline: its folders, trainer and preprocessor.

Every contender and `prepare` that uses nnU-Net calls `use_folders` before anything imports
nnunetv2:

    folder/raw           the data set's dataset.json
    folder/preprocessed  plans, and the cases that `preprocess` makes
    folder/results       logs and checkpoints of trainers
    folder/cache         caches of matplotlib and torch.compile, which lie in the home folder else
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nnunet_plans import CONFIGURATION, DATASET, PLANS
from kitsjax.labels import KITS


def use_folders(folder: Path, cache: Path | None = None) -> None:
    """Make nnU-Net and the packages that it imports use `folder` for all their files.

    Args:
        folder: gets the folders above.
        cache: folder of the caches; None: the one above.
    """
    variables = {"nnUNet_wandb_enabled": "0"}
    for name in ("raw", "preprocessed", "results"):
        (folder / name / DATASET).mkdir(parents=True, exist_ok=True)
        variables[f"nnUNet_{name}"] = str(folder / name)
    for name in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        variables[name] = str((cache or folder / "cache") / name.lower())
    os.environ.update(variables)


def make_dataset(files: Mapping[str, tuple[Path, Path]] | None = None) -> dict[str, Any]:
    """Make the content of dataset.json: one CT channel and kitsjax's classes.

    Args:
        files: image and label of each case by its name, read where they lie; None: no cases.
    """
    cases = {
        name: {"images": [str(image)], "label": str(label)}
        for name, (image, label) in (files or {}).items()
    }
    return {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(KITS.names)},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "dataset": cases,
    }


def write_dataset(folder: Path, plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Write plans and dataset.json where nnU-Net's commands look for them under `folder`."""
    (folder / "raw" / DATASET / "dataset.json").write_text(json.dumps(dataset))
    (folder / "preprocessed" / DATASET / "dataset.json").write_text(json.dumps(dataset))
    (folder / "preprocessed" / DATASET / f"{PLANS}.json").write_text(json.dumps(plans))


def preprocess(workers: int) -> None:
    """Preprocess all cases of `write_dataset` anew, as nnUNetv2_preprocess does."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    DefaultPreprocessor(verbose=False).run(DATASET, CONFIGURATION, PLANS, workers)


def build_trainer(
    plans: dict[str, Any],
    device: str,
    *,
    compiled: bool = False,
    fold: int | str = "all",
    changes: Mapping[str, Any] | None = None,
) -> Any:
    """Build an nnUNetTrainer with its network, loss and optimizer.

    Args:
        plans: content of a plans file.
        device: "cpu" or "cuda".
        compiled: use torch.compile on the CPU too, where nnU-Net itself never does. On CUDA it
            always does.
        fold: number of a split in splits_final.json. With "all" the trainer trains and validates on
            all preprocessed cases; there may be none if no data loader is needed.
        changes: attributes of the trainer to set before it is initialized, such as "initial_lr".
    """
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    if device == "cuda":
        # nnUNetv2_train sets these. On the CPU it uses all cores; here OMP_NUM_THREADS says which.
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = True
    trainer = nnUNetTrainer(
        {**plans, "continue_training": False}, CONFIGURATION, fold, make_dataset(),
        torch.device(device),
    )  # fmt: skip
    for name, value in (changes or {}).items():
        setattr(trainer, name, value)
    if compiled:
        trainer._do_i_compile = lambda: True
    cases = Path(trainer.preprocessed_dataset_folder)
    cases.mkdir(exist_ok=True)
    if not any(cases.iterdir()):
        # A trainer infers the format of its cases from the ending of a file, so it needs one.
        (cases / "none.b2nd").touch()
    trainer.initialize()
    return trainer


def make_batch(trainer: Any, image: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """Make the batch that nnU-Net's data loader would, with a target of each resolution.

    Args:
        image, label: patches (b, z, y, x).
    """
    import torch
    from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
        DownsampleSegForDSTransform,
    )

    downsample = DownsampleSegForDSTransform(trainer._get_deep_supervision_scales())
    # The samples take the place of channels, which the transform treats alike.
    targets = downsample(segmentation=torch.from_numpy(label.astype(np.int16)))["segmentation"]
    return {
        "data": torch.from_numpy(image)[:, None].to(trainer.device),
        "target": [target[:, None].to(trainer.device) for target in targets],
    }


def convert_parameters(network: Any) -> dict[str, Any]:
    """Convert the parameters of nnU-Net's PlainConvUNet to those of `kitsjax.model.unet.UNet`.

    With them both compute the same function, if the UNet has as many deep supervision outputs.

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
    # nnU-Net counts the stages of its decoder from the bottom.
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
