"""Ensembles whose members normalize differently, and the models of folds."""

import dataclasses
import logging

import numpy as np
import pytest
from voxel_models import (
    FACTORS,
    Positional,
    Voxelwise,
    naive_probabilities,
    voxel_model,
    voxelwise_probabilities,
)

from kitsjax.data.preprocess import preprocess
from kitsjax.errors import InputError
from kitsjax.image.volume import make_volume
from kitsjax.image.write_nifti import write_volume
from kitsjax.infer.bundle import save_bundle
from kitsjax.infer.ensemble import find_models, load_ensemble, read_ensemble
from kitsjax.infer.export import export_model
from kitsjax.infer.predict import predict_label, probabilities, segment
from kitsjax.infer.predict_files import predict_files
from kitsjax.infer.trained_model import stack_models

SPACING_MM = (2.0, 2.0, 2.0)


def random_ct(shape=(12, 10, 20)):
    return make_volume(np.random.default_rng(0).integers(-200, 400, shape), SPACING_MM)


def normalizing(intensities, network=None, factor=1.0):
    """A model of whole HU and single precision; () normalizes by the case."""
    model = voxel_model(network or Voxelwise())
    numbers = {"normalize": "foreground" if intensities else "case", "intensities": intensities}
    preprocess = model.preprocess.model_copy(update={"dtype": "float32", **numbers})
    params = {"factors": factor * FACTORS}
    return dataclasses.replace(model, params=params, preprocess=preprocess)


MEMBERS = {
    "foreground": [((-100.0, 300.0, 100.0, 80.0), 1.0), ((-50.0, 250.0, 60.0, 120.0), 1.0)],
    "case": [((), 1.0), ((), 0.5)],
    "both": [((-100.0, 300.0, 100.0, 80.0), 1.0), ((), 0.5), ((-100.0, 300.0, 100.0, 80.0), 2.0)],
}


def predict_probabilities(models, volume, tmp_path):
    """The probabilities that predict.py writes for a CT, classes first."""
    ct, mask = tmp_path / "ct.nii.gz", tmp_path / "mask.nii.gz"
    write_volume(ct, volume)
    assert predict_files(models, [(ct, mask)], probabilities=True, progress=False) == []
    import nibabel

    # The file's axes are (x, y, z, class), pointing elsewhere: back to those of the CT.
    written = nibabel.load(tmp_path / "mask_probabilities.nii.gz")
    return np.moveaxis(np.asanyarray(written.dataobj), -1, 0)


@pytest.mark.parametrize("kind", MEMBERS)
def test_members_see_their_own_normalization(kind, tmp_path):
    """The ensemble's probabilities are the mean of each model's, by NumPy alone."""
    models = [normalizing(numbers, factor=factor) for numbers, factor in MEMBERS[kind]]
    volume = random_ct()
    alone = []
    for model, (numbers, factor) in zip(models, MEMBERS[kind], strict=True):
        hu = volume.array.astype(float)
        low, high = numbers[:2] if numbers else np.percentile(hu, (0.5, 99.5))
        clipped = np.clip(hu, low, high)
        mean, deviation = numbers[2:] if numbers else (clipped.mean(), clipped.std())
        alone.append(voxelwise_probabilities(factor * (clipped - mean) / deviation))
        own = probabilities(model, preprocess(volume, model.preprocess))
        np.testing.assert_allclose(own, alone[-1], atol=1e-5)
    expected = np.mean(alone, 0)
    ensemble = stack_models(models)
    assert len(ensemble.images) == {"foreground": 2, "case": 1, "both": 2}[kind]
    found = predict_probabilities(models, volume, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    first, second = np.sort(expected, axis=0)[:-3:-1]
    clear = first - second > 1e-4
    label = segment(models, volume).array
    np.testing.assert_array_equal(label[clear], expected.argmax(0)[clear])


def test_windows_and_padding_of_each_image(tmp_path):
    """A CT smaller than a window is padded with each image's own mean; windows overlap."""
    models = [normalizing(numbers, Positional()) for numbers, _ in MEMBERS["foreground"]]
    volume = random_ct((6, 13, 9))
    alone = [naive_probabilities(m, preprocess(volume, m.preprocess), m.predict) for m in models]
    found = predict_probabilities(models, volume, tmp_path)
    np.testing.assert_allclose(found, np.mean(alone, 0), atol=1e-5)


def test_one_image_is_not_taken_for_all():
    models = [normalizing(numbers) for numbers, _ in MEMBERS["foreground"]]
    image = preprocess(random_ct(), models[0].preprocess)
    for use in (
        lambda: probabilities(models, image),
        lambda: predict_label(stack_models(models), image, models[0].predict),
        lambda: export_model(models),
    ):
        with pytest.raises(InputError, match="normalize by different intensities"):
            use()


def test_the_models_of_folds_are_found(small_models, small_settings, tmp_path, caplog):
    """All that are there, in the order of their numbers; a note counts them."""
    folder = tmp_path / "run"
    for fold in (0, 2, 10):
        path = folder / f"fold_{fold}" / "model.safetensors"
        save_bundle(path, small_models[0].params, small_settings, {})
    (folder / "fold_3").mkdir()
    (folder / "fold_x").mkdir()
    with caplog.at_level(logging.WARNING):
        found = find_models(folder)
    assert [path.parent.name for path in found] == ["fold_0", "fold_2", "fold_10"]
    assert caplog.messages == [f"{folder}: averages the models of 3 folds (fold_3 has none yet)"]
    assert len(load_ensemble(folder, folder / "fold_0")) == 4
    # A run's own model comes first, and what is nothing is told by its reader.
    assert find_models(folder / "fold_2") == [folder / "fold_2"]
    for missing in (folder / "fold_3", tmp_path / "none"):
        with pytest.raises(InputError, match=str(missing)):
            load_ensemble(missing)


def test_other_settings_of_prediction_are_told(small_models, small_settings, tmp_path, caplog):
    """Once, whatever else differs; what --set makes equal does not, nor how it is computed."""
    updates = ({}, {"batch_size": 7, "bucket": 8}, {"mirror": True, "largest_components": 2}, {})
    paths = [tmp_path / f"{n}.safetensors" for n in range(len(updates))]
    for path, update in zip(paths, updates, strict=True):
        predict = small_settings.predict.model_copy(update=update)
        settings = small_settings.model_copy(update={"predict": predict})
        save_bundle(path, small_models[0].params, settings, {})
    load_ensemble(*paths[:2])
    read = read_ensemble(paths, ["predict.mirror=false", "predict.largest_components=1"])
    assert {bundle.settings.predict.largest_components for bundle in read} == {1}
    assert caplog.messages == []
    models = load_ensemble(*paths)
    assert [model.predict.mirror for model in models] == [False, False, True, False]
    assert caplog.messages == [
        f"{paths[2]}: its predict.mirror is True, but False of the first model, {paths[0]}, holds "
        "for all; give the model first whose [predict] is to hold"
    ]
