"""The package's own models: found by name, told apart from paths, small, and each with a card."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import kitsjax as kj
from kitsjax.errors import InputError
from kitsjax.infer import packaged_models
from kitsjax.infer.bundle import load_model, read_bundle, save_bundle
from kitsjax.infer.ensemble import find_models
from kitsjax.infer.packaged_models import FOLDER, PACKAGED, locate_model

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
    if not file.is_file():
        pytest.skip(f"this build has no {file.name}")
    assert file.stat().st_size <= MOST_BYTES
    assert (FOLDER / f"{name}.md").is_file()
    assert read_bundle(name).settings.labels.names


def test_predict_takes_it_by_default(tmp_path):
    """Without --model the command uses it, or says in one line that it is not there."""
    if (FOLDER / "synthetic.safetensors").is_file():
        pytest.skip("this build has the model, whose prediction takes too long here")
    command = [sys.executable, "bin/predict.py", "--input", "absent", "--output", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("predict.py: synthetic: this build of kitsjax has no such model")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
