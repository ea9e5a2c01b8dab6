"""A data set in nnU-Net's layout, from its files to the scores: the run of the same KiTS cases."""

import shutil

import nibabel as nib
import numpy as np
import pytest
from layouts import put, to_nnunet
from tiny_run import predict, run

from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.labels import MAJORITY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nnunet(finished, tmp_path_factory):
    """The folder of the tiny run's cases in nnU-Net's layout, and of a run on it."""
    folder, _ = finished
    base = tmp_path_factory.mktemp("nnunet")
    root = base / "Dataset001_Phantom"
    to_nnunet(folder / "data" / "phantom", root)
    wanted = [f"data.root={root}", "data.make_phantom=false", f"run.folder={base / 'run'}"]
    options = [part for setting in wanted for part in ("--set", setting)]
    made = run("preprocess", "--config", folder / "tiny.toml", *options)
    assert made.returncode == 0, made.stderr
    assert f"note: {root}: layout nnunet, 3 cases, labels kidney, tumor, cyst" in made.stderr
    done = run("train", "--config", folder / "tiny.toml", *options)
    assert done.returncode == 0, done.stderr
    return root, base / "run"


def test_the_run_is_that_of_the_kits_cases(finished, nnunet):
    """Other names of the same files change no voxel of the masks, and no score."""
    folder, _ = finished
    _, other = nnunet
    (mask,) = (folder / "run" / "predictions").glob("*.nii.gz")
    same = other / "predictions" / mask.name
    np.testing.assert_array_equal(nib.load(mask).get_fdata(), nib.load(same).get_fdata())
    found, expected = (read_evaluation(run / "scores") for run in (other, folder / "run"))
    assert list(found.against) == [MAJORITY]
    for column in ("dice", "surface_dice"):
        assert found.table(MAJORITY, column) == expected.table(MAJORITY, column)


def test_test_images_are_predicted_and_scored(nnunet, tmp_path):
    """The folder's imagesTs is predicted, and masks are named and scored by their cases."""
    root, folder = nnunet
    (mask,) = (folder / "predictions").glob("*.nii.gz")
    name = mask.name.removesuffix(".nii.gz")
    put(root / "imagesTs" / f"{name}_0000.nii.gz", root / "imagesTr" / f"{name}_0000.nii.gz")
    done = predict("--model", folder, "--input", root, "--output", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "masks").iterdir()] == [mask.name]
    # Masks of other programs may keep the channel.
    shutil.move(tmp_path / "masks" / mask.name, tmp_path / "masks" / f"{name}_0000.nii.gz")
    scored = run(
        "evaluate", "--predictions", tmp_path / "masks", "--dataset", root, "--layout", "nnunet",
        "--output", tmp_path / "scores", "--allow-missing",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert "1 of 3 cases scored" in scored.stdout
    # Compared as text, since a distance that does not exist is "nan", which equals nothing.
    again, scores = (path / "scores" / "scores.csv" for path in (tmp_path, folder))
    assert again.read_text() == scores.read_text()


def test_the_check_takes_any_layout(nnunet, tmp_path):
    root, _ = nnunet
    done = run("check", "--dataset", root, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 cases" in done.stdout
