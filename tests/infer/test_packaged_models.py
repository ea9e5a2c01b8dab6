"""The package's own models: found by name, told apart from paths, small, and each with a card."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

import kitsjax as kj
from kitsjax.config import load_settings
from kitsjax.errors import InputError
from kitsjax.infer import packaged_models
from kitsjax.infer.bundle import load_model, read_bundle, save_bundle
from kitsjax.infer.ensemble import find_models
from kitsjax.infer.packaged_models import FOLDER, PACKAGED, locate_model
from kitsjax.phantom.wide.case import make_wide_case

ROOT = Path(__file__).parents[2]

MOST_BYTES = 15_000_000


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of models of a package that has none."""
    monkeypatch.setattr(packaged_models, "FOLDER", tmp_path / "package")
    return tmp_path / "package"


def equal(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_a_name_loads_the_packages_model(package, small_models, small_settings):
    save_bundle(package / "synthetic.safetensors", small_models[0].params, small_settings, {})
    assert equal(kj.load_model("synthetic").params, small_models[0].params)
    (found,) = kj.load_ensemble("synthetic")
    assert equal(found.params, small_models[0].params)
    assert find_models("synthetic") == [package / "synthetic.safetensors"]


def test_a_path_of_that_name_is_a_path(
    package, small_models, small_settings, tmp_path, monkeypatch
):
    """A user's folder is not mistaken for the package's model, nor that for the folder."""
    save_bundle(package / "synthetic.safetensors", small_models[0].params, small_settings, {})
    mine = tmp_path / "synthetic" / "model.safetensors"
    save_bundle(mine, small_models[1].params, small_settings, {})
    monkeypatch.chdir(tmp_path)
    assert equal(load_model("synthetic").params, small_models[0].params)
    for path in ("./synthetic", Path("synthetic"), str(tmp_path / "synthetic")):
        assert equal(load_model(path).params, small_models[1].params), path
    assert find_models("./synthetic") == [Path("synthetic")]


def test_a_model_that_is_missing_says_what_to_do(package):
    with pytest.raises(InputError) as told:
        load_model("synthetic")
    message = str(told.value)
    assert message.startswith("synthetic: this build of kitsjax has no such model")
    assert "bin/train.py --config configs/synthetic.toml" in message
    assert "\n" not in message
    with pytest.raises(InputError, match="no such model"):
        find_models("synthetic")


def test_other_names_are_paths(package):
    assert locate_model("synthetics") == Path("synthetics")
    assert locate_model("runs/synthetic") == Path("runs/synthetic")
    with pytest.raises(InputError, match="synthetics: no such file"):
        load_model("synthetics")


@pytest.mark.parametrize("name", PACKAGED)
def test_every_name_has_its_configuration(name):
    """The message of a missing model names it."""
    assert (ROOT / "configs" / f"{name}.toml").is_file()


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_models_are_small_and_described(name):
    file = FOLDER / f"{name}.safetensors"
    assert file.stat().st_size <= MOST_BYTES
    card = (FOLDER / f"{name}.md").read_text()
    # Only what the card says of this very file is true of it.
    assert hashlib.sha256(file.read_bytes()).hexdigest() in card
    assert "Not a medical device" in card


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_model_is_its_configurations(name):
    """Whoever trains with the configuration trains such a model."""
    assert read_bundle(name).settings == load_settings(ROOT / "configs" / f"{name}.toml")


def cut_out_the_kidneys(path):
    """Write the middle of a synthetic CT that the model never saw, and return its label (z, y, x).

    It is 230 mm wide, one window of the network, so that prediction takes seconds.
    """
    case = make_wide_case(999, 9, 96)
    label, spacing = case.labels["MAJ"], np.array(case.spacing_mm)
    inside = np.argwhere(label)
    center = (inside.min(0) + inside.max(0)) // 2
    box = tuple(
        slice(max(c - h, 0), c + h) for c, h in zip(center, np.int_(115 / spacing), strict=True)
    )
    nib.save(nib.Nifti1Image(case.image[box], case.affine), path)
    return label[box]


def test_predict_takes_it_by_default(tmp_path):
    """Without --model the command finds the kidneys of a patient that the model never saw."""
    truth = cut_out_the_kidneys(tmp_path / "scan.nii.gz")
    command = [sys.executable, "bin/predict.py", "--input", tmp_path / "scan.nii.gz"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, "--output", tmp_path / "masks"], cwd=ROOT, env=environment, check=True,
        capture_output=True,
    )  # fmt: skip
    found = np.asarray(nib.load(tmp_path / "masks" / "scan.nii.gz").dataobj)
    both = ((found > 0) & (truth > 0)).sum()
    assert 2 * both / ((found > 0).sum() + (truth > 0).sum()) > 0.9
