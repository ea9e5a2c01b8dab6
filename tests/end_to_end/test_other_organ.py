"""Another organ's labels: four of them, and voxels that nobody annotated, from files to masks."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from tiny_run import TINY, compilation_cache, predict, run

import kitsjax as kj
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.phantom.dataset import make_phantom

NAMES = ("right kidney", "left kidney", "tumor", "cyst")
LABELS = """
[labels]
names = ["right kidney", "left kidney", "tumor", "cyst"]
lesions = ["tumor", "cyst"]
ignore = true
"""


def split_kidneys(path):
    """Tell the kidneys apart by the half of the body, and leave the first slices unannotated."""
    image = nib.load(path)
    label = np.asarray(image.dataobj, np.uint8)
    new = np.where(label > 0, label + 1, 0).astype(np.uint8)
    half = np.zeros(label.shape, bool)
    half[..., : label.shape[-1] // 2] = True
    new[half & (label == 1)] = 1
    new[:2] = 5
    nib.save(nib.Nifti1Image(new, image.affine, image.header), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    make_phantom(folder / "data" / "phantom", 2, 64, seed=1, workers=1, progress=False)
    for path in folder.rglob("aggregated_MAJ_seg.nii.gz"):
        split_kidneys(path)
    text = TINY.replace("ROOT", str(folder)).replace("CACHE", compilation_cache())
    for old, new in (
        ("make_phantom = true\n", ""),
        ("foreground_fraction = 1.0", "foreground_fraction = 1.0\nclass_weights = [1, 1, 2, 2]"),
        ("epochs = 4", "epochs = 1"), ("[phantom]\ncases = 3\nmatrix = 64", LABELS),
        ("[loss]", "[loss]\nboundary_weight = 0.5"),
    ):  # fmt: skip
        assert old in text, old
        text = text.replace(old, new)
    (folder / "other.toml").write_text(text)
    done = run("train", "--config", folder / "other.toml")
    assert done.returncode == 0, done.stderr
    return folder


def test_its_labels_are_trained_and_logged(folder):
    rows = [
        json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    (epoch,) = (row for row in rows if row["kind"] == "epoch")
    assert {f"pseudo_dice_{name}" for name in NAMES} <= set(epoch)
    assert all(np.isfinite(row["loss"]) for row in rows if row["kind"] == "step")


def test_its_model_names_and_predicts_them(folder, tmp_path):
    model = kj.load_model(folder / "run")
    assert model.scheme.names == ("background", *NAMES)
    assert model.scheme.ignore == 5
    ct = folder / "data" / "phantom" / "case_00000" / "imaging.nii.gz"
    image = kj.preprocess(kj.read_volume(ct), model.preprocess)
    probabilities = np.asarray(kj.probabilities(model, image))
    assert probabilities.shape == (5, *image.shape)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    done = predict("--model", folder / "run", "--input", ct, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    (mask,) = tmp_path.glob("*.nii.gz")
    label = np.asarray(nib.load(mask).dataobj)
    assert set(np.unique(label)) <= set(range(5))
    np.testing.assert_array_equal(
        kj.segment(model, kj.read_volume(ct)).array, kj.read_label(mask, range(5)).array
    )


def test_its_scores_and_report_are_of_its_labels(folder, tmp_path):
    """As training scores them, and as bin/evaluate.py does with the same settings."""
    found = read_evaluation(folder / "run" / "scores")
    assert found.scheme.names == ("background", *NAMES)
    assert found.scheme.ignore == 5
    assert not found.failures
    page = (folder / "run" / "report" / "report.html").read_text()
    assert "<h1>Segmentation of right kidney, left kidney, tumor and cyst</h1>" in page
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert list(summary["classes"]) == ["foreground", *NAMES]
    assert list(summary["best_hu_threshold"]) == ["foreground", *NAMES]
    data, settings = folder / "data" / "phantom", folder / "other.toml"
    done = run(
        "evaluate", "--predictions", folder / "run" / "predictions", "--dataset", data,
        "--split", folder / "run" / "split.json", "--config", settings, "--output", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert repr(read_evaluation(tmp_path).scores) == repr(found.scores)
    assert "Right kidney" in done.stdout


def test_its_data_set_is_checked_by_its_labels(folder, tmp_path):
    """Two slices are ignored; KiTS's labels would call them foreign."""
    data = folder / "data" / "phantom"
    done = run("check", "--dataset", data, "--config", folder / "other.toml", "--output", tmp_path)
    assert done.returncode == 0, done.stdout
    rows = csv.DictReader((tmp_path / "cases.csv").read_text().splitlines())
    assert all(float(row["ignored_percent"]) > 0 and row["left kidney_cm3"] for row in rows)
    done = run("check", "--dataset", data, "--output", tmp_path)
    assert done.returncode == 1
    assert "foreign labels" in done.stdout
