"""A trained model outside its run folder: each way of using it gives the masks of the run."""

import json
from hashlib import sha256

import jax.export
import numpy as np
import pytest
from tiny_run import predict, run

import kitsjax as kj
from kitsjax.image.resample import resample_nearest
from kitsjax.infer.bundle import read_bundle, save_bundle


@pytest.fixture
def folder(finished):
    """The run folder."""
    return finished[0] / "run"


@pytest.fixture
def held_out(held_out):
    """The held-out case's CT, and the labels that the run predicted for it."""
    mask, ct = held_out
    return ct, kj.read_label(mask).array


def test_a_model_file_predicts_the_same_mask(folder, held_out, tmp_path):
    """The file also says which split the model comes from, its scores and versions."""
    ct, expected = held_out
    bundle = tmp_path / "tiny.safetensors"
    done = run("export", "--model", folder, "--format", "bundle", "--output", bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(bundle) in done.stdout
    provenance = read_bundle(bundle).provenance
    assert provenance["split"]["held_out"] == 1
    split = (folder / "split.json").read_bytes()
    assert provenance["split"]["sha256"] == sha256(split).hexdigest()
    assert provenance["scores"] == json.loads((folder / "summary.json").read_text())
    assert provenance["versions"]["jax"]
    done = predict("--model", bundle, "--input", ct, "--output", tmp_path / "masks")
    assert done.returncode == 0
    (mask,) = (tmp_path / "masks").iterdir()
    np.testing.assert_array_equal(kj.read_label(mask).array, expected)


def test_python_and_stablehlo_predict_the_same(folder, held_out, run_here, tmp_path):
    ct, expected = held_out
    model, volume = kj.load_model(folder), kj.read_volume(ct)
    label = kj.segment(model, volume)
    np.testing.assert_array_equal(label.array, expected)
    image = kj.preprocess(volume, model.preprocess)
    found = np.asarray(kj.probabilities(model, image).argmax(0), np.uint8)
    np.testing.assert_array_equal(resample_nearest(found, volume.array.shape), expected)
    done = run_here("export", "--model", folder, "--format", "stablehlo", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    exported = jax.export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    np.testing.assert_array_equal(exported.call(image), found)
    stored = json.loads((tmp_path / "model.json").read_text())["preprocess"]
    assert stored["normalize"] == "foreground"
    assert tuple(stored["intensities"]) == model.preprocess.intensities != ()


@pytest.mark.parametrize(("own", "asked"), [(False, ["--mirror"]), (True, [])])
def test_an_export_mirrors_if_either_says(folder, run_here, tmp_path, monkeypatch, own, asked):
    """The model's own setting stays, as in `export_model` and `predict.py`."""
    bundle, exported = read_bundle(folder), []
    predict = bundle.settings.predict.model_copy(update={"mirror": own})
    settings = bundle.settings.model_copy(update={"predict": predict})
    save_bundle(tmp_path / "model.safetensors", bundle.params, settings, {})
    monkeypatch.setattr(
        "kitsjax.infer.export.save_exported_model", lambda _, models, dtype: exported.extend(models)
    )
    arguments = ["--model", tmp_path / "model.safetensors", "--format", "stablehlo", *asked]
    assert run_here("export", *arguments, "--output", tmp_path / "exported").returncode == 0
    assert [model.predict.mirror for model in exported] == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{run}", "{run}", "--output", "x.safetensors"], "a bundle holds one model"),
        (["--model", "{run}", "--output", "x"], "end in .safetensors"),
        (["--model", "{run}", "--mirror", "--output", "x.safetensors"], "add --format stablehlo"),
        (["--model", "{run}", "--dtype", "bfloat16", "--output", "x.safetensors"], "or float16"),
        (["--model", "{run}/absent", "--output", "x.safetensors"], "absent"),
        (["--model", "{run}/absent", "--format", "stablehlo", "--output", "x"], "absent"),
    ],
)
def test_mistakes_are_one_line(folder, run_here, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = run_here("export", *(a.format(run=folder) for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
