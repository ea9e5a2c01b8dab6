"""nnU-Net's own preprocessing, training and prediction, for the learning benchmark.

Everything is nnU-Net's default but what the task fixes: network, spacing, patch, batch, steps and
split. Its data loader, augmentation, loss, optimizer, schedule and mirrored prediction are its own,
and so are the foreground intensities that it measures in the training cases.
"""

import json
import os
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks import nnunet
from benchmarks.nnunet_plans import CONFIGURATION, DATASET, PLANS, make_plans
from kitsjax.config import load_settings
from kitsjax.data.kits import find_cases
from kitsjax.data.split import read_split
from kitsjax.process_pool import cores
from kitsjax.settings import Settings

CHECKPOINT = "checkpoint_final.pth"
"""nnU-Net predicts with the parameters of the last step."""


def make_task_plans(settings: Settings, intensities: dict[str, float]) -> dict[str, Any]:
    """Make nnU-Net's plans for the network, spacing, patch, batch and Dice of kitsjax's settings.

    Args:
        settings: all settings of kitsjax's run.
        intensities: statistics of the foreground, as nnU-Net's fingerprint has them for a channel.
    """
    from kitsjax.model.unet import stage_features

    sampling, network = settings.sampling, settings.network
    features = stage_features(
        sampling.patch_shape, network.features, network.max_features, network.smallest
    )
    plans = make_plans(
        settings.preprocess.spacing_mm, sampling.patch_shape, sampling.batch_size, features
    )
    # Files in KiTS21's layout have slices on the first axis, which ITK reads as the last.
    plans["transpose_forward"] = plans["transpose_backward"] = [2, 1, 0]
    plans["foreground_intensity_properties_per_channel"] = {"0": intensities}
    configuration = plans["configurations"][CONFIGURATION]
    # Its planner knows both. Few small patches seldom hold every class; one over the batch fits.
    configuration["batch_dice"] = settings.loss.dice_per_batch
    for kind in ("data", "seg", "probabilities"):
        # nnU-Net decides by the spacings whether the axis of thick slices is resampled alone.
        configuration[f"resampling_fn_{kind}_kwargs"]["force_separate_z"] = None
    return plans


def prepare(folder: str, settings_path: str) -> None:
    """Measure the training cases' intensities, plan, and preprocess all cases of the split.

    Args:
        folder: nnU-Net's folder of raw and preprocessed data.
        settings_path: kitsjax's settings, with the data set and its split.
    """
    nnunet.use_folders(Path(folder))
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )

    settings = load_settings(settings_path)
    split = read_split(settings.data.split)
    files = {
        c.case_id: (c.image.resolve(), c.label.resolve()) for c in find_cases(settings.data.root)
    }
    # The fingerprint is of all cases of the data set, so at first it has the training cases alone.
    train = nnunet.make_dataset({name: files[name] for name in split.train})
    nnunet.write_dataset(Path(folder), {}, train)
    fingerprint = DatasetFingerprintExtractor(DATASET, cores()).run(overwrite_existing=True)
    intensities = fingerprint["foreground_intensity_properties_per_channel"]
    plans = make_task_plans(settings, intensities.get(0) or intensities["0"])
    chosen = {name: files[name] for name in (*split.train, *split.held_out)}
    nnunet.write_dataset(Path(folder), plans, nnunet.make_dataset(chosen))
    folds = [{"train": list(split.train), "val": list(split.held_out)}]
    (Path(folder) / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(folds))
    nnunet.preprocess(cores())


def train(folder: str, results: str, seed: int, changes: dict[str, Any]) -> dict[str, float]:
    """Train as nnUNetv2_train does.

    nnU-Net's data loader is not seeded, so a seed repeats the initialization but not the run.

    Args:
        folder: as `prepare` left it.
        results: folder of the checkpoints.
        seed: seed of the initialization.
        changes: attributes of the trainer other than its defaults, such as "num_epochs".

    Returns:
        The seconds of all epochs, and the number of parameters without deep supervision outputs.
    """
    _use(folder, results)
    if find_torch_device() == "cpu":
        # PyTorch has all cores, and augmentation takes a tenth of a step. On CUDA nnU-Net decides.
        os.environ.setdefault("nnUNet_n_proc_DA", str(cores() // 4))
    import numpy as np
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  nnU-Net uses this state
    plans = json.loads((Path(folder) / "preprocessed" / DATASET / f"{PLANS}.json").read_text())
    trainer = nnunet.build_trainer(plans, find_torch_device(), fold=0, changes=changes)
    if find_torch_device() == "cpu":
        # PyTorch's convolutions are faster so on a CPU (benchmarks/README.md).
        trainer.network.to(memory_format=torch.channels_last_3d)
    # The plot of each epoch takes as long as several steps, and epochs may be shorter than usual.
    trainer.logger.plot_progress_png = lambda *_: None
    trainer.run_training()
    begins, ends = (
        trainer.logger.get_value(f"epoch_{end}_timestamps", step=None) for end in ("start", "end")
    )
    parameters = sum(
        parameter.numel()
        for name, parameter in trainer.network.named_parameters()
        if "seg_layers" not in name
    )
    return {"epoch_seconds": float(sum(ends) - sum(begins)), "parameters": parameters}


def predict(folder: str, results: str, files: list[tuple[str, str]]) -> None:
    """Predict as nnUNetv2_predict does, mirrored.

    Args:
        folder: as `prepare` left it.
        results: as `train` left it.
        files: CT and mask of each case.
    """
    _use(folder, results)
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device(find_torch_device()), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(
        str(model_folder(Path(results))), (0,), CHECKPOINT
    )
    if find_torch_device() == "cpu":
        predictor.network.to(memory_format=torch.channels_last_3d)
        predictor._internal_maybe_mirror_and_predict = _predict_mirrored_at_once(predictor)
    cts, masks = zip(*files, strict=True)
    Path(masks[0]).parent.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files(
        [[ct] for ct in cts], [mask.removesuffix(".nii.gz") for mask in masks],
        num_processes_preprocessing=1, num_processes_segmentation_export=1,
    )  # fmt: skip


def _predict_mirrored_at_once(predictor: Any) -> Callable[[Any], Any]:
    """Compute all mirrored copies of a window in one batch, a third of the time on a CPU.

    PyTorch computes small convolutions of a batch of 1 by a slow algorithm. The result is the mean
    that nnU-Net takes of one copy after another.
    """
    import torch

    def predict_window(window: Any) -> Any:
        axes = [axis + 2 for axis in predictor.allowed_mirroring_axes or ()]
        flips = [flip for size in range(len(axes) + 1) for flip in combinations(axes, size)]
        logits = predictor.network(torch.cat([torch.flip(window, flip) for flip in flips]))
        copies = zip(logits.split(len(window)), flips, strict=True)
        return sum(torch.flip(copy, flip) for copy, flip in copies) / len(flips)

    return predict_window


def model_folder(results: Path) -> Path:
    """Return the folder in which nnU-Net keeps a trained model, below that of all results."""
    return results / DATASET / f"nnUNetTrainer__{PLANS}__{CONFIGURATION}"


def _use(folder: str, results: str) -> None:
    # Programs that an earlier training compiled would shorten this one's time.
    nnunet.use_folders(Path(folder), Path(results) / "cache")
    os.environ["nnUNet_results"] = results  # noqa: SIM112  nnU-Net's own name


def find_torch_device() -> str:
    """Return the device that nnU-Net computes on: cuda or cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


_STEPS: dict[str, Callable[..., Any]] = {"prepare": prepare, "train": train, "predict": predict}


def main(result: str, step: str, arguments: str) -> None:
    """Run a step with arguments in JSON, and write what it returns to the file `result`."""
    value: Any = _STEPS[step](*json.loads(arguments))
    Path(result).write_text(json.dumps(value))


if __name__ == "__main__":
    main(*sys.argv[1:])
