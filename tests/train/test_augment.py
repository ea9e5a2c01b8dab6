"""Augmentation: the sampled parameters, the whole of it, the intensities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oversized_patches import ball, centroid, noise, quick_jit

from kitsjax.settings import AugmentSettings
from kitsjax.train import augment as A
from kitsjax.train.spatial import crop_center

SPATIAL = ("rotate", "scale")
NAMES = (*SPATIAL, "mirror", *A.INTENSITY)
PATCH = (24, 20, 22)
DEFAULT = AugmentSettings()
OVERSIZED = A.oversized_shape(PATCH, DEFAULT)
SAMPLES = 4000
# Statistics of a fixed seed: a failure means a changed generator or a wrong rule, not bad luck.
SIGMAS = 4.5

augment = quick_jit(A.augment, static_argnums=(3, 4))
augment_batch = quick_jit(A.augment_batch, static_argnums=(3, 4))
apply_parameters = quick_jit(A.apply_parameters, static_argnums=(3, 4))


def only(*names: str, **others: object) -> AugmentSettings:
    """Settings under which exactly these augmentations are applied, always."""
    return AugmentSettings(**{name: float(name in names) for name in NAMES}, **others)


def augment_by_parts(
    key: jax.Array, image: np.ndarray, label: np.ndarray, settings: AugmentSettings
) -> tuple[jax.Array, jax.Array]:
    """`augment`, with a single compilation for all probabilities under the default ranges."""
    parameters = A.sample_parameters(key, settings)
    return apply_parameters(parameters, image, label, PATCH, DEFAULT)


@functools.cache
def samples() -> A.AugmentParameters:
    keys = jax.random.split(jax.random.key(0), SAMPLES)
    sampled = quick_jit(jax.vmap(lambda key: A.sample_parameters(key, DEFAULT)))(keys)
    return jax.tree.map(np.asarray, sampled)


# Parameters


@pytest.mark.parametrize("name", NAMES)
def test_each_is_applied_with_its_probability(name):
    rate = samples().applied[name].mean()
    assert abs(rate - 0.4) < SIGMAS * np.sqrt(0.4 * 0.6 / SAMPLES)


def test_mirror_flips_each_axis_half_the_time():
    rates = samples().flips.mean(axis=0)
    assert np.all(np.abs(rates - 0.5) < SIGMAS * 0.5 / np.sqrt(SAMPLES))


def test_values_cover_exactly_their_ranges():
    limit = np.radians(DEFAULT.rotation_degrees)
    sampled = {f"angle {i}": (samples().angles_rad[:, i], (-limit, limit)) for i in range(3)}
    sampled["scale"] = (samples().scale, DEFAULT.scale_range)
    for name, values in samples().values.items():
        sampled[name] = (values, A.INTENSITY[name].read_settings(DEFAULT)[1])
    for name, (values, (low, high)) in sampled.items():
        tolerance = 1e-6
        assert values.min() >= low - tolerance, name
        assert values.max() <= high + tolerance, name
        counts = np.histogram(values, bins=8, range=(low, high))[0]
        assert counts.min() > SAMPLES / 8 / 2, (name, counts)


def test_gamma_is_as_often_below_one_as_above():
    share = (samples().values["gamma"] < 1).mean()
    assert abs(share - 0.5) < SIGMAS * 0.5 / np.sqrt(SAMPLES)


def test_parameters_are_independent():
    leaves = jax.tree.leaves(samples())
    columns = np.column_stack([np.reshape(leaf, (SAMPLES, -1)) for leaf in leaves])
    assert columns.shape[1] == len(NAMES) + 3 + 1 + 3 + len(A.INTENSITY)
    correlation = np.corrcoef(columns.astype(float), rowvar=False)
    assert np.abs(correlation - np.eye(len(correlation))).max() < SIGMAS / np.sqrt(SAMPLES)


# The oversized patch


def test_oversized_shape_is_the_known_answer():
    assert A.oversized_shape((128, 128, 128), DEFAULT) == (205, 205, 205)  # nnU-Net's
    assert A.oversized_shape((128, 128, 128), only("rotate")) == (174, 174, 174)  # cos 30 + sin 30
    assert A.oversized_shape((128, 128, 128), only("scale")) == (150, 150, 150)
    assert A.oversized_shape((128, 128, 128), only("mirror", "gamma")) == (128, 128, 128)
    assert A.oversized_shape((40, 30, 20), only("rotate", rotation_degrees=90.0)) == (50, 50, 44)


@pytest.mark.parametrize(
    "settings", [only("rotate", rotation_degrees=0.0), only("scale", scale_range=(1.0, 1.4))]
)
def test_oversized_is_not_smaller_than_the_patch(settings):
    assert A.oversized_shape(PATCH, settings) == PATCH


def test_a_smaller_oversized_patch_is_refused():
    image, label = noise((*PATCH[:2], PATCH[2] - 1))
    with pytest.raises(ValueError, match="smaller than the patch"):
        augment(jax.random.key(0), image, label, PATCH, DEFAULT)


# The whole augmentation


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probability_zero_is_exactly_the_center(dtype):
    image, label = noise(OVERSIZED)
    image = image.astype(dtype)
    patch, mask = augment(jax.random.key(0), image, label, PATCH, only())
    window = tuple(
        slice((s - p) // 2, (s - p) // 2 + p) for s, p in zip(OVERSIZED, PATCH, strict=True)
    )
    assert patch.dtype == jnp.float32
    assert mask.dtype == jnp.int32
    np.testing.assert_array_equal(patch, image[window].astype(np.float32))
    np.testing.assert_array_equal(mask, label[window])


@pytest.mark.parametrize("name", NAMES)
def test_each_alone_changes_the_patch(name):
    image, label = noise(OVERSIZED)
    plain, mask = crop_center(image, label, PATCH)
    changed, changed_mask = augment_by_parts(jax.random.key(1), image, label, only(name))
    assert float(jnp.abs(changed - plain).mean()) > 0.01
    assert bool((changed_mask == mask).all()) == (name in A.INTENSITY)


@pytest.mark.parametrize("name", SPATIAL)
def test_a_value_that_is_not_applied_is_ignored(name):
    image, label = noise(OVERSIZED)
    sampled = A.sample_parameters(jax.random.key(0), only(name))
    other = sampled._replace(
        angles_rad=sampled.angles_rad + float(name != "rotate"),
        scale=sampled.scale + float(name != "scale"),
        flips=~sampled.flips,
        values=jax.tree.map(lambda x: 1 + x, sampled.values),
    )
    np.testing.assert_array_equal(
        apply_parameters(sampled, image, label, PATCH, DEFAULT)[0],
        apply_parameters(other, image, label, PATCH, DEFAULT)[0],
    )


def test_what_is_never_applied_is_not_compiled():
    image, label = noise(OVERSIZED)

    def gathers(settings: AugmentSettings) -> int:
        lowered = augment.lower(jax.random.key(0), image, label, PATCH, settings)
        return lowered.compile().as_text().count(" gather(")

    assert gathers(only("mirror", "gamma")) == 0
    assert gathers(only("rotate")) > 0


def test_a_float64_session_gets_the_same():
    image, label = noise(OVERSIZED)
    for seed in range(3):
        sample = jax.random.key(seed), image, label, only(*NAMES)
        known, classes = augment_by_parts(*sample)
        with jax.enable_x64(True):
            patch, mask = augment_by_parts(*sample)
        assert (patch.dtype, mask.dtype) == (jnp.float32, jnp.int32)
        np.testing.assert_allclose(patch, known, atol=1e-5)
        np.testing.assert_array_equal(mask, classes)


def test_batch_vmap_and_no_jit_equal_a_loop():
    patches = [noise(OVERSIZED, seed) for seed in range(4)]
    images, labels = (np.stack(arrays) for arrays in zip(*patches, strict=True))
    keys = jax.random.split(jax.random.key(3), 4)
    loop = [augment_by_parts(*sample, DEFAULT) for sample in zip(keys, images, labels, strict=True)]
    batch = augment_batch(keys, images, labels, PATCH, DEFAULT)
    together = quick_jit(jax.vmap(lambda *sample: A.augment(*sample, PATCH, DEFAULT)))
    many = together(keys, images, labels)
    plain = A.augment(keys[0], jnp.asarray(images[0]), jnp.asarray(labels[0]), PATCH, DEFAULT)
    ways = [(zip(*batch, strict=True), loop), (zip(*many, strict=True), loop), ([plain], loop[:1])]
    for found, expected in ways:
        for (patch, mask), (known, known_mask) in zip(found, expected, strict=True):
            np.testing.assert_allclose(patch, known, atol=2e-4)
            # A point halfway between two voxels may fall to either after another rounding.
            assert (mask == known_mask).mean() > 0.9999
    assert len({float(patch.sum()) for patch, _ in loop}) == 4


def test_label_stays_on_the_image():
    """The label is where the image is above a half, before and after every transform."""
    patch_shape = (40, 40, 40)
    settings = only("mirror", *SPATIAL)
    oversized = A.oversized_shape(patch_shape, settings)
    image = np.maximum(ball(oversized, (3, -5, 2), 9), ball(oversized, (-5, 4, -3), 7))
    label = np.where(image > 0.5, 3, 0).astype(np.uint8)
    keys = jax.random.split(jax.random.key(5), 6)
    copies = (np.broadcast_to(array, (6, *oversized)) for array in (image, label))
    patches, masks = (np.asarray(a) for a in augment_batch(keys, *copies, patch_shape, settings))
    assert set(np.unique(masks)) == {0, 3}
    for patch, mask in zip(patches, masks, strict=True):
        expected = patch > 0.5
        overlap = 2 * (expected & (mask == 3)).sum() / (expected.sum() + (mask == 3).sum())
        assert overlap > 0.92
        np.testing.assert_allclose(centroid(mask == 3), centroid(expected), atol=0.15)
