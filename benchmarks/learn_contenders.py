"""The contenders of the learning benchmark: how each is prepared, trained and used to predict.

Each training is a process of its own on all cores, and so is each prediction.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open

from benchmarks.hardware import describe_packages
from benchmarks.learn_nnunet_process import CHECKPOINT, make_task_plans, model_folder
from benchmarks.learn_task import Task
from benchmarks.run_once import run_once
from benchmarks.run_process import ROOT, read_last_line, run_alone, run_module
from kitsjax.config import to_toml
from kitsjax.data.kits import find_cases
from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.image.read_nifti import read_label
from kitsjax.image.write_nifti import write_volume
from kitsjax.infer.postprocess import postprocess
from kitsjax.labels import KITS
from kitsjax.process_pool import THREAD_VARIABLES, cores
from kitsjax.settings import PredictSettings, Settings
from kitsjax.training_log import LOG_NAME, read_epochs

DEFAULT_RATE = 0.01
"""nnU-Net's learning rate, with its momentum of 0.99."""


@dataclass(frozen=True)
class Trained:
    """What a training reports.

    Attributes:
        seconds: wall time from the start of its process to its last model file. Preprocessing comes
            before and prediction after it.
        epoch_seconds: seconds of all epochs, by its own log; the rest is importing, compiling,
            starting workers and writing.
        parameters: number of the network's parameters, without deep supervision outputs.
    """

    seconds: float
    epoch_seconds: float
    parameters: int


class Contender(Protocol):
    """kitsjax or nnU-Net."""

    @property
    def name(self) -> str:
        """Name in the table."""

    def asks(self, task: Task) -> dict[str, Any]:
        """Return what its training depends on besides seed and batches, as JSON can keep it."""

    def prepare(self, task: Task) -> None:
        """Preprocess the data set, unless it is preprocessed."""

    def train(self, task: Task, folder: Path, seed: int, batches: int) -> Trained:
        """Train with so many batches per epoch into an empty folder."""

    def predict(self, task: Task, folder: Path, cases: Path, masks: Path) -> None:
        """Predict a folder of cases with the model of a training into the folder `masks`."""


class Kitsjax:
    """kitsjax by its own commands."""

    name = "kitsjax"

    def asks(self, task: Task) -> dict[str, Any]:
        """Return all settings and the split."""
        return {"settings": to_toml(task.settings), "split": _read_split(task)}

    def prepare(self, task: Task) -> None:
        """Preprocess what is not up to date."""
        path = _write_settings(task.folder / "settings.toml", task.settings)
        _run_command("preprocess", ["--config", str(path)], task.folder / "kitsjax.log")

    def train(self, task: Task, folder: Path, seed: int, batches: int) -> Trained:
        """Train with an empty cache of compiled programs, and predict the held-out cases."""
        from kitsjax.infer.bundle import BUNDLE_NAME

        settings = task.settings
        run = {"folder": str(folder / "run"), "compilation_cache": str(folder / "xla")}
        settings = settings.model_copy(
            update={
                "train": settings.train.model_copy(update={"seed": seed, "batches": batches}),
                "run": settings.run.model_copy(update=run),
            }
        )
        path = _write_settings(folder / "settings.toml", settings)
        began = time.time()
        _run_command("train", ["--config", str(path)], folder / "train.log")
        model = folder / "run" / BUNDLE_NAME
        with safe_open(model, framework="np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        epochs = read_epochs(folder / "run" / LOG_NAME)
        return Trained(
            model.stat().st_mtime - began,
            sum(epoch["seconds"] for epoch in epochs),
            count_parameters(shapes),
        )

    def predict(self, task: Task, folder: Path, cases: Path, masks: Path) -> None:
        """Predict with the programs that training compiled, where they fit."""
        arguments = ["--model", str(folder / "run"), "--input", str(cases), "--output", str(masks)]
        # It needs probabilities, which nnU-Net's masks do not have.
        arguments += ["--set", "predict.least_lesion_certainty=0"]
        arguments += ["--set", f"run.cpu_devices={task.settings.run.cpu_devices}"]
        arguments += ["--set", f"run.compilation_cache={json.dumps(str(folder / 'xla'))}"]
        _run_command("predict", arguments, folder / "predict.log")


class NnUNet:
    """nnU-Net by its own classes.

    Args:
        rate: its learning rate.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.name = "nnU-Net" if rate == DEFAULT_RATE else f"nnU-Net, rate {rate:g}"

    def asks(self, task: Task) -> dict[str, Any]:
        """Return what it takes of kitsjax's settings, so that these may change in all else."""
        train = task.settings.train
        own = {"rate": self._rate, "epochs": train.epochs, "validation": train.validation_batches}
        return self._asks_data(task) | own

    def _asks_data(self, task: Task) -> dict[str, Any]:
        plans = make_task_plans(task.settings, {})
        return {
            "plans": plans,
            "root": task.settings.data.root,
            "split": _read_split(task),
            "packages": describe_packages(),
        }

    def prepare(self, task: Task) -> None:
        """Measure intensities and preprocess, once."""

        def work() -> None:
            path = _write_settings(task.folder / "settings.toml", task.settings)
            _run_nnunet("prepare", [_data(task), str(path)], task.folder / "nnunet.log")

        run_once(Path(_data(task)), "prepared.json", self._asks_data(task), work)

    def train(self, task: Task, folder: Path, seed: int, batches: int) -> Trained:
        """Train; every attribute that is not changed has nnU-Net's default."""
        train = task.settings.train
        changes = {
            "initial_lr": self._rate,
            "num_epochs": train.epochs,
            "num_iterations_per_epoch": batches,
            "num_val_iterations_per_epoch": train.validation_batches,
        }
        began = time.time()
        found = _run_nnunet(
            "train", [_data(task), str(folder), seed, changes], folder / "train.log"
        )
        model = model_folder(folder) / "fold_0" / CHECKPOINT
        return Trained(model.stat().st_mtime - began, found["epoch_seconds"], found["parameters"])

    def predict(self, task: Task, folder: Path, cases: Path, masks: Path) -> None:
        """Predict all cases in one process."""
        files = [
            (str(case.image.resolve()), str(masks / f"{case.case_id}.nii.gz"))
            for case in find_cases(cases)
        ]
        _run_nnunet("predict", [_data(task), str(folder), files], folder / "predict.log")
        for _, mask in files:
            postprocess_file(Path(mask), task.settings.predict)


def postprocess_file(path: Path, settings: PredictSettings) -> None:
    """Apply the steps of post-processing that kitsjax's settings ask for to a mask of nnU-Net.

    nnU-Net has such steps, too, and chooses them by the held-out cases.
    """
    mask = read_label(path)
    label = postprocess(mask.array, mask.grid.voxel_mm3, settings, KITS)
    write_volume(path, replace(mask, array=label))


def count_parameters(shapes: dict[str, Sequence[int]]) -> int:
    """Count the parameters with these shapes, without those of deep supervision outputs."""
    return sum(math.prod(shape) for name, shape in shapes.items() if "head_" not in name)


def _read_split(task: Task) -> Any:
    return json.loads(Path(task.settings.data.split).read_text())


def _data(task: Task) -> str:
    return str(task.folder / "nnunet")


def _write_settings(path: Path, settings: Settings) -> Path:
    write_text(path, to_toml(settings))
    return path


def _run_command(name: str, arguments: Sequence[str], log: Path) -> None:
    command = [sys.executable, str(ROOT / "bin" / f"{name}.py"), *arguments]
    status = run_alone(command, {}, log)
    if status:
        why = read_last_line(log)
        raise InputError(f"learn: bin/{name}.py: exit status {status} ({why}); see {log}")


def _run_nnunet(step: str, arguments: Sequence[Any], log: Path) -> Any:
    threads = dict.fromkeys((*THREAD_VARIABLES, "nnUNet_def_n_proc"), str(cores()))
    process = "benchmarks.learn_nnunet_process"
    return run_module("learn", process, [step, json.dumps(arguments)], threads, log)
