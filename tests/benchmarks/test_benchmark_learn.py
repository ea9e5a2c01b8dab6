import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import learn
from benchmarks.learn_contenders import Trained, postprocess_file
from benchmarks.learn_task import LearnOptions
from kitsjax.data.kits import find_cases
from kitsjax.errors import InputError
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_label
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.settings import PredictSettings

TINY = ("phantom.matrix=64", "phantom.cases=2", "data.held_out=1", "train.batches=10")


class Copier:
    """A contender whose masks are the true labels, without the classes that it has not learned."""

    def __init__(self, name, seconds, unlearned):
        self.name, self._seconds, self._unlearned = name, seconds, unlearned

    def asks(self, task):
        return {}

    def prepare(self, task):
        pass

    def train(self, task, folder, seed, batches):
        return Trained(self._seconds * batches, self._seconds * batches, 7)

    def predict(self, task, folder, cases, masks):
        for case in find_cases(cases):
            volume = read_label(case.label)
            array = volume.array.copy()
            for label in self._unlearned:
                array[array == label] = 0
            write_volume(masks / f"{case.case_id}.nii.gz", replace(volume, array=array))


def test_results_are_a_table_a_figure_and_json(monkeypatch, tmp_path):
    monkeypatch.setattr(learn, "is_installed", lambda _: True)
    monkeypatch.setattr(learn, "find_torch_device", lambda: "cpu")
    monkeypatch.setattr(learn, "Kitsjax", lambda: Copier("kitsjax", 1, ()))
    monkeypatch.setattr(learn, "NnUNet", lambda rate: Copier(f"rate {rate}", 2, (2, 3)))
    options = LearnOptions(overrides=TINY, rates=[0.01])
    text = learn.run_learn(tmp_path / "out", tmp_path / "work", options, seeds=1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(learn.FILES)
    assert "1.000" in text
    found = json.loads((tmp_path / "out" / "learn.json").read_text())
    steps, minutes = ([run["batches"] for run in runs] for runs in found["trainings"].values())
    assert (steps, minutes) == ([10, 10], [10, 5])
    assert "phantom of seed 0 (plain), 1 cases" in found["data"]
    assert "batches = 10" in found["settings"]
    # One case has no interval, and JSON has no nan.
    assert "NaN" not in (tmp_path / "out" / "learn.json").read_text()
    others = found["comparisons"]["same steps"]["phantom of seed 1000"]["rate 0.01"]["dice"]
    assert others["kidney_and_mass"]["our_mean"]["mean"] == 1
    assert 0 < others["kidney_and_mass"]["difference"]["mean"] < 1
    assert others["mass"]["theirs"][0] < others["mass"]["ours"][0] == 1


def test_both_compute_on_the_same_kind_of_device(monkeypatch):
    monkeypatch.setattr(learn, "is_installed", lambda _: True)
    for accelerators, device, fits in (
        ("none", "cpu", True), ("H100", "cuda", True), ("none", "cuda", False),
        ("H100", "cpu", False),
    ):  # fmt: skip
        machine = {"accelerators": accelerators}
        monkeypatch.setattr(learn, "describe_machine", lambda machine=machine: machine)
        monkeypatch.setattr(learn, "find_torch_device", lambda device=device: device)
        with nullcontext() if fits else pytest.raises(InputError, match="not have the same device"):
            learn.check_learn(LearnOptions())


def test_masks_of_nnunet_get_the_same_steps(tmp_path):
    """A stray mass without kidney goes, as from kitsjax's masks; the grid and the rest stay."""
    label = np.zeros((6, 20, 20), np.uint8)
    label[1:5, 2:10, 2:10], label[1:5, 15:17, 15:17] = 1, 2
    header = kits_header(label.shape, (4.0, 2.0, 2.0))
    path = tmp_path / "case_00000.nii.gz"
    write_label(path, label, header)
    before = read_label(path)
    postprocess_file(path, PredictSettings(least_organ_ml=1.0))
    after = read_label(path)
    np.testing.assert_array_equal(after.array, np.where(label == 1, 1, 0))
    np.testing.assert_array_equal(after.affine, before.affine)


def test_without_nnunet_nothing_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(learn, "is_installed", lambda _: False)
    with pytest.raises(InputError, match="nnunetv2 is not installed"):
        learn.run_learn(tmp_path / "out", tmp_path / "work", LearnOptions(), seeds=1)
    assert not list(tmp_path.iterdir())
