"""CTs of odd sizes and contents: each trains and is predicted, or is refused by name."""

import json

import jax
import numpy as np
import pytest

import kitsjax as kj
from kitsjax.data.kits import find_cases
from kitsjax.data.patches import draw_start, read_patch
from kitsjax.data.preprocess_cases import preprocess_cases
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.image.write_nifti import write_volume
from kitsjax.infer.bundle import make_model
from kitsjax.settings import (
    NetworkSettings,
    PredictSettings,
    PreprocessSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)
from kitsjax.train.loop import TrainingLoop
from kitsjax.training_log import read_epochs

SETTINGS = Settings(
    preprocess=PreprocessSettings(spacing_mm=2.0),
    # A patch for each of the tests' eight devices.
    sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8, foreground_fraction=0.5),
    network=NetworkSettings(features=2, deep_supervision=1, convolution="direct"),
    train=TrainSettings(epochs=1, batches=2, validation_batches=1),
    predict=PredictSettings(bucket=8),
)


def write_case(root, array, label):
    folder = root / "case_00000"
    folder.mkdir(parents=True)
    for name, values in (("imaging", array), ("segmentation", label)):
        write_volume(folder / f"{name}.nii.gz", kj.make_volume(values, (2.0, 2.0, 2.0)))
    return folder


def make_ct(shape, *, constant=False, labeled=True, not_a_number=False):
    rng = np.random.default_rng(0)
    array = np.full(shape, 40, np.float32) if constant else rng.normal(40, 100, shape)
    if not_a_number:
        array[tuple(n // 2 for n in shape)] = np.nan
    label = np.zeros(shape, np.uint8)
    if labeled:
        label[tuple(slice(n // 3, n // 3 + 2) for n in shape)] = 2
    return array.astype(np.float32), label


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "odd"),
    [
        ((1, 24, 24), {}),
        ((4, 5, 6), {}),
        ((16, 16, 16), {"constant": True}),
        ((16, 16, 16), {"labeled": False}),
    ],
    ids=["one slice", "smaller than the patch", "constant", "no foreground"],
)
def test_odd_cases_train_and_are_predicted(tmp_path, shape, odd):
    folder = write_case(tmp_path / "raw", *make_ct(shape, **odd))
    prepared = preprocess_cases(find_cases(tmp_path / "raw"), tmp_path, SETTINGS.preprocess)
    assert prepared.failures == []
    cases = [*prepared.cases.values()]
    params, _ = TrainingLoop(SETTINGS, tmp_path / "run", cases, cases).fit()
    (row,) = read_epochs(tmp_path / "run" / "metrics.jsonl")
    assert np.isfinite([row["train_loss"], row["validation_loss"], row["pseudo_dice"]]).all()
    model = make_model(jax.tree.map(np.asarray, params), SETTINGS)
    mask = kj.segment(model, kj.read_volume(folder / "imaging.nii.gz"))
    assert mask.array.shape == shape
    assert set(np.unique(mask.array)) <= {0, 1, 2, 3}


def test_a_voxel_that_is_no_number_is_refused(tmp_path):
    folder = write_case(tmp_path / "raw", *make_ct((16, 16, 16), not_a_number=True))
    prepared = preprocess_cases(find_cases(tmp_path / "raw"), tmp_path, SETTINGS.preprocess)
    ((case_id, message),) = prepared.failures
    assert case_id == "case_00000"
    refusal = f"{folder}/imaging.nii.gz: 1 of 4096 voxels are NaN or infinite"
    assert message.startswith(refusal)
    with pytest.raises(kj.InputError, match=refusal):
        kj.read_volume(folder / "imaging.nii.gz")


def test_patches_of_a_huge_case_reach_its_ends(tmp_path):
    """512 x 512 x 1059 voxels, KiTS' largest; the file is sparse, so that it takes no room."""
    shape = 1059, 512, 512
    image = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.int16, shape)
    image[-1, -1, -1] = 7
    del image
    record = {"shape": shape, "voxels": {1: 0, 2: 1, 3: 0}}
    (tmp_path / "case.json").write_text(json.dumps(record))
    for value in (1, 2, 3):
        far = [[1058, 511, 511]] if value == 2 else np.zeros((0, 3))
        np.save(tmp_path / f"foreground_{value}.npy", np.array(far, np.int32))
    case = PreprocessedCase(tmp_path)
    rng = np.random.default_rng(0)
    patch = read_patch(case.image(), draw_start(rng, case, (128,) * 3, True), (128,) * 3)
    assert patch[64, 64, 64] == 7
    starts = [draw_start(rng, case, (128,) * 3, False) for _ in range(2000)]
    np.testing.assert_array_less(np.max(starts, 0), np.array(shape) - 127)
    assert np.max(starts, 0)[0] > 900
