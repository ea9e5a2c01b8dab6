import itertools
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import pytest

from kitsjax.config import PredictSettings, load_settings
from kitsjax.data.geometry import Volume, kits_geometry
from kitsjax.data.volume import read_volume, write_volume
from kitsjax.errors import InputError
from kitsjax.infer.bundle import Model, combine_models, make_model
from kitsjax.infer.predict import (
    find_inputs,
    predict_files,
    predict_label,
    predict_probabilities,
    segment,
)
from kitsjax.infer.tiles import importance_map, window_positions
from kitsjax.labels import CLASSES

PATCH = (8, 8, 8)
SETTINGS = PredictSettings(bucket=16)
PARAMS = {"factors": jnp.array([[0.0, 1.0, 2.0, -1.0]])}
"""Of `Voxelwise`, one member."""


@dataclass
class Counts:
    traces: int = 0
    batches: int = 0


COUNTS = Counts()


class Voxelwise(nn.Module):
    """A network that sees one voxel at a time: logits are factors times intensity."""

    tag: int = 0

    @nn.compact
    def __call__(self, x):
        COUNTS.traces += 1
        jax.debug.callback(count_batch)
        factors = self.param("factors", nn.initializers.zeros, (len(CLASSES),))
        return (x * factors,)


def voxel_model(network):
    settings = load_settings(None, [f"sampling.patch_shape={list(PATCH)}"])
    return Model(network, PARAMS, settings)


def count_batch():
    COUNTS.batches += 1


class Positional(Voxelwise):
    """Also sees where in the window a voxel lies, so that no two windows agree."""

    @nn.compact
    def __call__(self, x):
        z, y, w = (jnp.arange(size) for size in x.shape[1:4])
        place = z[:, None, None] + 10 * y[:, None] + 100 * w
        return super().__call__(jnp.sin(x + place[..., None]))


def random_image(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def softmax(logits, axis):
    e = np.exp(logits - logits.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def voxelwise_probabilities(image, factors=PARAMS["factors"][0]):
    return softmax(np.asarray(factors)[:, None, None, None] * image, 0)


@pytest.mark.parametrize("shape", [(16, 11, 20), (3, 17, 8), (1, 40, 5), (1, 1, 1), (8, 8, 8)])
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_are_a_partition_of_unity(shape, mirror):
    settings = PredictSettings(bucket=16, mirror=mirror, batch_size=3)
    image = random_image(shape)
    found = predict_probabilities(voxel_model(Voxelwise()), image, settings)
    assert found.shape == (len(CLASSES), *shape)
    np.testing.assert_allclose(found, voxelwise_probabilities(image), atol=2e-6)
    label = predict_label(voxel_model(Voxelwise()), image, settings)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, found.argmax(0))


def naive_probabilities(window_probabilities, image, settings, patch_shape):
    """V1 in plain loops: pad to the patch, sum weighted windows, divide by the sum of weights."""
    short = np.maximum(0, np.subtract(patch_shape, image.shape))
    before = short // 2
    padded = np.pad(image, list(zip(before, short - before, strict=True)))
    weights = importance_map(patch_shape, settings.weighting)
    sums = np.zeros((len(CLASSES), *padded.shape))
    total = np.zeros(padded.shape)
    flips = [[]]
    if settings.mirror:
        flips = [list(axes) for n in range(4) for axes in itertools.combinations(range(3), n)]
    for position in window_positions(padded.shape, patch_shape, settings.step):
        window = tuple(slice(p, p + n) for p, n in zip(position, patch_shape, strict=True))
        for axes in flips:
            found = window_probabilities(np.flip(padded[window], axes))
            sums[:, *window] += weights * np.flip(found, [1 + axis for axis in axes]) / len(flips)
        total[window] += weights
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape, strict=True))
    return (sums / total)[:, *inside]


def by_window(network, params):
    def window_probabilities(window):
        logits = network.apply({"params": params}, jnp.asarray(window)[None, ..., None])[0][0]
        return np.moveaxis(np.asarray(jax.nn.softmax(logits)), -1, 0)

    return window_probabilities


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("weighting", ["gaussian", "uniform"])
@pytest.mark.parametrize("shape", [(13, 9, 16), (5, 12, 8)])
def test_equals_plain_loops_where_windows_disagree(shape, weighting, mirror):
    settings = PredictSettings(bucket=16, weighting=weighting, mirror=mirror, batch_size=4)
    image = random_image(shape)
    single = {"factors": PARAMS["factors"][0]}
    expected = naive_probabilities(by_window(Positional(), single), image, settings, PATCH)
    found = predict_probabilities(voxel_model(Positional()), image, settings)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.fixture(scope="module")
def small_settings():
    return load_settings(
        None,
        [
            "network.features=4",
            "network.heads=2",
            "sampling.patch_shape=[16, 16, 16]",
            "preprocess.spacing_mm=2.0",
            "preprocess.dtype='float32'",
            "predict.bucket=16",
        ],
    )


def random_model(settings, seed):
    model = make_model({}, settings)
    window = jnp.zeros((1, *settings.sampling.patch_shape, 1))
    shapes = jax.eval_shape(model.network.init, jax.random.key(0), window)["params"]
    # Not init's own numbers: compiling the initialization takes longer than all that is tested.
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(s.dtype), shapes)
    return make_model(params, settings)


@pytest.fixture(scope="module")
def small_models(small_settings):
    return [random_model(small_settings, seed) for seed in (0, 1)]


def test_equals_plain_loops_with_the_real_network_and_averages_an_ensemble(small_models):
    patch_shape = (16, 16, 16)
    settings = PredictSettings(bucket=16, batch_size=2)
    image = random_image((20, 16, 30))
    expected = []
    for model in small_models:
        single = jax.tree.map(lambda leaf: leaf[0], model.params)
        network = by_window(model.network, single)
        expected.append(naive_probabilities(network, image, settings, patch_shape))
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    ensemble = combine_models(small_models)
    found = predict_probabilities(ensemble, image, settings)
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-5)


def test_an_ensemble_refuses_other_networks_and_nothing(small_models, small_settings):
    other = small_settings.model_copy(
        update={"preprocess": small_settings.preprocess.model_copy(update={"spacing_mm": 3.0})}
    )
    with pytest.raises(InputError, match="model 2 has another preprocessing"):
        combine_models([small_models[0], Model(small_models[0].network, PARAMS, other)])
    with pytest.raises(InputError, match="no model given"):
        combine_models([])


def test_shapes_of_a_bucket_share_a_program_and_compute_only_their_windows():
    network = Voxelwise(tag=1)
    COUNTS.traces = COUNTS.batches = 0
    predict_label(voxel_model(network), random_image((16, 16, 16)), SETTINGS)
    jax.effects_barrier()
    traces = COUNTS.traces
    assert traces > 0
    # Three windows an axis, two at a time.
    assert COUNTS.batches == 14
    predict_label(voxel_model(network), random_image((9, 8, 3)), SETTINGS)
    jax.effects_barrier()
    assert COUNTS.traces == traces
    # Two windows along z, one along the others.
    assert COUNTS.batches == 14 + 1
    predict_label(voxel_model(network), random_image((17, 8, 3)), SETTINGS)
    assert COUNTS.traces > traces


def test_float16_images_are_computed_in_float32():
    image = random_image((10, 8, 8)).astype(np.float16)
    found = predict_probabilities(voxel_model(Voxelwise()), image, SETTINGS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, voxelwise_probabilities(image.astype(np.float32)), atol=2e-6)


def bright_cube(shape=(20, 30, 30)):
    """0 HU with an off-center cube of 1000 HU."""
    array = np.zeros(shape, np.float32)
    array[8:16, 10:20, 6:14] = 1000
    return array


def threshold_model(settings):
    """Label 2 (tumor) above normalized intensity 1.5, else background."""
    return Model(Threshold(), {"cut": jnp.array([1.5])}, settings)


class Threshold(nn.Module):
    @nn.compact
    def __call__(self, x):
        cut = self.param("cut", nn.initializers.zeros, ())
        return (jnp.concatenate([cut - x, cut - x - 9, x - cut, cut - x - 9], axis=-1),)


def test_segment_returns_the_native_shape_and_finds_a_cube(small_settings):
    array = bright_cube()
    volume = Volume(array, (3.0, 1.0, 1.0), np.diag([3.0, 1.0, 1.0, 1.0]))
    label = segment(threshold_model(small_settings), volume)
    assert label.shape == array.shape
    assert label.dtype == np.uint8
    assert set(np.unique(label)) == {0, 2}
    overlap = np.sum((label == 2) & (array > 0))
    assert 2 * overlap / (np.sum(label == 2) + np.sum(array > 0)) > 0.85


def test_predict_files_writes_the_inputs_geometry_and_goes_on_past_bad_files(
    small_settings, tmp_path
):
    geometry = kits_geometry((20, 30, 30), (3.0, 1.0, 1.0))
    folder, output = tmp_path / "in", tmp_path / "deep" / "out"
    folder.mkdir()
    for name in ("b.nii.gz", "d.nii.gz"):
        write_volume(folder / name, bright_cube(), geometry)
    (folder / "a.nii.gz").write_text("no NIfTI")
    (folder / "c.nii").write_bytes((folder / "d.nii.gz").read_bytes()[:500])
    (folder / "notes.txt").write_text("no CT")
    model = threshold_model(small_settings)
    files = find_inputs(folder, output)
    failures = predict_files(model, files, probabilities=True)
    assert [path.name for path, _ in failures] == ["a.nii.gz", "c.nii"]
    assert all(str(path) in message for path, message in failures)
    masks = {"b.nii.gz", "d.nii.gz", "b_probabilities.nii.gz", "d_probabilities.nii.gz"}
    assert {path.name for path in output.iterdir()} == masks
    expected = segment(model, read_volume(folder / "d.nii.gz"))
    mask = read_volume(output / "d.nii.gz")
    np.testing.assert_array_equal(mask.array, expected)
    np.testing.assert_array_equal(mask.file.nifti["sform_code"], geometry.nifti["sform_code"])
    np.testing.assert_array_equal(mask.affine, read_volume(folder / "d.nii.gz").affine)
    probabilities = read_probabilities(output / "d_probabilities.nii.gz")
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(-1), expected)


def read_probabilities(path):
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.float32
    return np.asanyarray(image.dataobj)


def test_predict_files_lists_outputs_that_cannot_be_written(small_settings, tmp_path):
    source = tmp_path / "ct.nii.gz"
    write_volume(source, bright_cube(), kits_geometry((20, 30, 30), (3.0, 1.0, 1.0)))
    (tmp_path / "file").write_text("not a folder")
    model = threshold_model(small_settings)
    failures = predict_files(model, find_inputs(source, tmp_path / "file"))
    assert [path for path, _ in failures] == [source]
    assert (tmp_path / "file").read_text() == "not a folder"


def test_find_inputs(tmp_path):
    for name in ("kits/case_00001", "kits/case_00000", "flat"):
        (tmp_path / name).mkdir(parents=True)
    cts = [tmp_path / f"kits/case_0000{n}/imaging.nii.gz" for n in (0, 1)]
    flat = [tmp_path / "flat" / name for name in ("a.nii", "b.nii.gz")]
    mask = tmp_path / "kits/case_00000/aggregated_MAJ_seg.nii.gz"
    for path in [*cts, *flat, mask, tmp_path / "flat/._b.nii.gz", tmp_path / "flat/x.txt"]:
        path.touch()
    out = tmp_path / "out"
    masks = [out / f"case_0000{n}.nii.gz" for n in (0, 1)]
    assert find_inputs(tmp_path / "kits", out) == list(zip(cts, masks, strict=True))
    assert find_inputs(cts[0].parent, out) == [(cts[0], masks[0])]
    assert find_inputs(cts[1], out) == [(cts[1], masks[1])]
    link = tmp_path / "links/case_00009/imaging.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to(cts[0])
    assert find_inputs(link, out) == [(link, out / "case_00009.nii.gz")]
    assert find_inputs(flat[0], out) == [(flat[0], out / "a.nii.gz")]
    assert find_inputs(tmp_path / "flat", out) == [
        (flat[0], out / "a.nii.gz"),
        (flat[1], out / "b.nii.gz"),
    ]


def test_find_inputs_refuses_nothing_clashes_and_outputs_that_are_inputs(tmp_path):
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(InputError, match="would replace an input"):
        find_inputs(tmp_path / "a.nii.gz", tmp_path)
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match="would both be written"):
        find_inputs(tmp_path, tmp_path / "out")
