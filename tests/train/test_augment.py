"""Augmentation: chances and ranges of the draws, the whole of it, intensities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from source_patches import ball, centroid, noise

from kitsjax.settings import AugmentSettings
from kitsjax.train import augment as A
from kitsjax.train.spatial import crop_center

SPATIAL = ("rotate", "scale")
NAMES = (*SPATIAL, "mirror", *A.INTENSITY)
PATCH = (24, 20, 22)
DEFAULT = AugmentSettings()
SOURCE = A.oversized_shape(PATCH, DEFAULT)
DRAWN = 4000
# Statistics of a fixed seed: a failure means a changed generator or a wrong rule, not bad luck.
SIGMAS = 4.5

augment = jax.jit(A.augment, static_argnums=(3, 4))
augment_batch = jax.jit(A.augment_batch, static_argnums=(3, 4))


def only(*names: str, **others: object) -> AugmentSettings:
    """Settings under which exactly these augmentations fire, always."""
    return AugmentSettings(**{name: float(name in names) for name in NAMES}, **others)


@functools.cache
def draws() -> A.Draws:
    keys = jax.random.split(jax.random.key(0), DRAWN)
    drawn = jax.jit(jax.vmap(lambda key: A.draw(key, DEFAULT)))(keys)
    return jax.tree.map(np.asarray, drawn)


# Draws


@pytest.mark.parametrize("name", NAMES)
def test_fires_with_its_probability(name):
    rate = draws().fires[name].mean()
    assert abs(rate - 0.4) < SIGMAS * np.sqrt(0.4 * 0.6 / DRAWN)


def test_mirror_flips_each_axis_half_the_time():
    rates = draws().flips.mean(axis=0)
    assert np.all(np.abs(rates - 0.5) < SIGMAS * 0.5 / np.sqrt(DRAWN))


def test_values_cover_their_ranges_and_nothing_else():
    limit = np.radians(DEFAULT.rotation_degrees)
    drawn = {f"angle {i}": (draws().angles_rad[:, i], (-limit, limit)) for i in range(3)}
    drawn["scale"] = (draws().scale, DEFAULT.scale_range)
    for name, values in draws().values.items():
        drawn[name] = (values, getattr(DEFAULT, f"{name}_range"))
    for name, (values, (low, high)) in drawn.items():
        tolerance = 1e-6
        assert values.min() >= low - tolerance, name
        assert values.max() <= high + tolerance, name
        counts = np.histogram(values, bins=8, range=(low, high))[0]
        assert counts.min() > DRAWN / 8 / 2, (name, counts)


def test_gamma_is_as_often_below_one_as_above():
    share = (draws().values["gamma"] < 1).mean()
    assert abs(share - 0.5) < SIGMAS * 0.5 / np.sqrt(DRAWN)


@pytest.mark.parametrize("limits", [(0.5, 0.9), (1.2, 1.5), (1.0, 1.0)])
def test_gamma_range_need_not_contain_one(limits):
    keys = jax.random.split(jax.random.key(0), 100)
    values = jax.vmap(lambda key: A.halves_about_one(key, limits))(keys)
    assert values.min() >= limits[0] - 1e-6
    assert values.max() <= limits[1] + 1e-6


def test_draws_are_independent():
    columns = np.column_stack([np.reshape(leaf, (DRAWN, -1)) for leaf in jax.tree.leaves(draws())])
    assert columns.shape[1] == len(NAMES) + 3 + 1 + 3 + len(A.INTENSITY)
    correlation = np.corrcoef(columns.astype(float), rowvar=False)
    assert np.abs(correlation - np.eye(len(correlation))).max() < SIGMAS / np.sqrt(DRAWN)


# Source


def test_source_shape_is_the_known_answer():
    assert A.oversized_shape((128, 128, 128), DEFAULT) == (205, 205, 205)  # nnU-Net's
    assert A.oversized_shape((128, 128, 128), only("rotate")) == (174, 174, 174)  # cos 30 + sin 30
    assert A.oversized_shape((128, 128, 128), only("scale")) == (150, 150, 150)
    assert A.oversized_shape((128, 128, 128), only("mirror", "gamma")) == (128, 128, 128)
    assert A.oversized_shape((40, 30, 20), only("rotate", rotation_degrees=90.0)) == (50, 50, 44)


@pytest.mark.parametrize(
    "settings", [only("rotate", rotation_degrees=0.0), only("scale", scale_range=(1.0, 1.4))]
)
def test_source_is_never_smaller_than_the_patch(settings):
    assert A.oversized_shape(PATCH, settings) == PATCH


def test_a_source_smaller_than_the_patch_is_refused():
    image, label = noise((24, 20, 21))
    with pytest.raises(ValueError, match="smaller than the patch"):
        A.augment(jax.random.key(0), jnp.asarray(image), jnp.asarray(label), PATCH, DEFAULT)


# The whole augmentation


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probability_zero_is_the_center_to_the_bit(dtype):
    image, label = noise(SOURCE)
    image = image.astype(dtype)
    patch, mask = augment(jax.random.key(0), image, label, PATCH, only())
    window = tuple(
        slice((s - p) // 2, (s - p) // 2 + p) for s, p in zip(SOURCE, PATCH, strict=True)
    )
    assert patch.dtype == jnp.float32
    assert mask.dtype == jnp.int32
    np.testing.assert_array_equal(patch, image[window].astype(np.float32))
    np.testing.assert_array_equal(mask, label[window])


@pytest.mark.parametrize("name", NAMES)
def test_each_alone_changes_the_patch(name):
    image, label = noise(SOURCE)
    plain, mask = crop_center(jnp.asarray(image), jnp.asarray(label), PATCH)
    changed, changed_mask = augment(jax.random.key(1), image, label, PATCH, only(name))
    assert float(jnp.abs(changed - plain).mean()) > 0.01
    assert bool((changed_mask == mask).all()) == (name in A.INTENSITY)


@pytest.mark.parametrize("name", SPATIAL)
def test_a_value_whose_draw_does_not_fire_is_ignored(name):
    image, label = (jnp.asarray(array) for array in noise(SOURCE))
    drawn = A.draw(jax.random.key(0), only(name))
    other = A.Draws(drawn.fires, *jax.tree.map(lambda x: 1 + x, drawn[1:]))
    fired = {"rotate": "angles_rad", "scale": "scale"}[name]
    other = other._replace(**{fired: getattr(drawn, fired)}, flips=~drawn.flips)
    settings = only(name)
    run = jax.jit(A.apply, static_argnums=(3, 4))
    np.testing.assert_array_equal(
        run(drawn, image, label, PATCH, settings)[0],
        run(other, image, label, PATCH, settings)[0],
    )


def test_what_cannot_fire_is_not_in_the_program():
    image, label = noise(SOURCE)

    def gathers(settings: AugmentSettings) -> int:
        program = augment.lower(jax.random.key(0), image, label, PATCH, settings)
        return program.compile().as_text().count(" gather(")

    assert gathers(only("mirror", "gamma")) == 0
    assert gathers(only("rotate")) > 0


def test_a_user_who_computes_in_float64_gets_the_same():
    image, label = noise(SOURCE)
    for seed in range(3):
        key = jax.random.key(seed)
        known, classes = augment(key, image, label, PATCH, only(*NAMES))
        with jax.enable_x64(True):
            patch, mask = augment(key, image, label, PATCH, only(*NAMES))
        assert (patch.dtype, mask.dtype) == (jnp.float32, jnp.int32)
        np.testing.assert_allclose(patch, known, atol=1e-5)
        np.testing.assert_array_equal(mask, classes)


def test_batch_and_vmap_equal_a_loop_and_jit_changes_nothing():
    sources = [noise(SOURCE, seed) for seed in range(4)]
    images, labels = (np.stack(arrays) for arrays in zip(*sources, strict=True))
    keys = jax.random.split(jax.random.key(3), 4)
    loop = [augment(*sample, PATCH, DEFAULT) for sample in zip(keys, images, labels, strict=True)]
    batch = augment_batch(keys, images, labels, PATCH, DEFAULT)
    many = jax.vmap(lambda *sample: augment(*sample, PATCH, DEFAULT))(keys, images, labels)
    plain = A.augment(keys[0], jnp.asarray(images[0]), jnp.asarray(labels[0]), PATCH, DEFAULT)
    forms = [(zip(*batch, strict=True), loop), (zip(*many, strict=True), loop), ([plain], loop[:1])]
    for implementation, expected in forms:
        for (patch, mask), (known, known_mask) in zip(implementation, expected, strict=True):
            np.testing.assert_allclose(patch, known, atol=2e-4)
            # A point halfway between two voxels may fall to either after another rounding.
            assert (mask == known_mask).mean() > 0.9999
    assert len({float(patch.sum()) for patch, _ in loop}) == 4


def test_label_stays_on_the_image():
    """The label is where the image is above a half; so it must be after every transform."""
    patch_shape = (40, 40, 40)
    settings = only("mirror", *SPATIAL)
    source = A.oversized_shape(patch_shape, settings)
    image = np.maximum(ball(source, (3, -5, 2), 9), ball(source, (-5, 4, -3), 7))
    label = np.where(image > 0.5, 3, 0).astype(np.uint8)
    keys = jax.random.split(jax.random.key(5), 6)
    copies = (np.broadcast_to(array, (6, *source)) for array in (image, label))
    patches, masks = (np.asarray(a) for a in augment_batch(keys, *copies, patch_shape, settings))
    assert set(np.unique(masks)) == {0, 3}
    for patch, mask in zip(patches, masks, strict=True):
        expected = patch > 0.5
        overlap = 2 * (expected & (mask == 3)).sum() / (expected.sum() + (mask == 3).sum())
        assert overlap > 0.92
        np.testing.assert_allclose(centroid(mask == 3), centroid(expected), atol=0.15)


# Intensities


@pytest.mark.parametrize("name", A.INTENSITY)
@pytest.mark.parametrize("constant", [0.0, -3.5, 1000.0])
def test_a_constant_patch_stays_finite(name, constant):
    _, adjust = A.INTENSITY[name]
    for value in getattr(DEFAULT, f"{name}_range"):
        adjusted = adjust(jnp.full(PATCH, constant), jnp.float32(value))
        assert bool(jnp.isfinite(adjusted).all())
        if name != "brightness":
            np.testing.assert_allclose(adjusted, constant, rtol=1e-5)


@pytest.mark.parametrize("name", A.INTENSITY)
def test_a_value_of_one_changes_nothing(name):
    image, _ = noise(PATCH)
    _, adjust = A.INTENSITY[name]
    np.testing.assert_allclose(adjust(jnp.asarray(image), jnp.float32(1)), image, atol=2e-5)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast_stretches_about_the_mean_within_the_range(factor):
    image, _ = noise(PATCH)
    adjusted = np.asarray(A.adjust_contrast(jnp.asarray(image), factor))
    mean = image.mean()
    expected = np.clip((image - mean) * factor + mean, image.min(), image.max())
    np.testing.assert_allclose(adjusted, expected, atol=1e-5)
    assert adjusted.min() >= image.min()
    assert adjusted.max() <= image.max()


@pytest.mark.parametrize("exponent", [0.7, 1.5])
def test_gamma_keeps_order_mean_and_deviation(exponent):
    image, _ = noise(PATCH)
    adjusted = np.asarray(A.adjust_gamma(jnp.asarray(image), exponent))
    np.testing.assert_allclose(adjusted.mean(), image.mean(), atol=1e-4)
    np.testing.assert_allclose(adjusted.std(), image.std(), rtol=1e-4)
    assert np.all(np.diff(adjusted.ravel()[np.argsort(image, axis=None)]) >= 0)


def test_gamma_is_the_known_answer():
    image = jnp.array([[[2.0, 4.0, 6.0]]])
    # Fractions 0, 1/2, 1 squared: 0, 1/4, 1, of mean 5/12; then mean 4 and variance 8/3 again.
    powered = np.array([0, 1 / 4, 1])
    expected = (powered - 5 / 12) / np.sqrt(13 / 72) * np.sqrt(8 / 3) + 4
    np.testing.assert_allclose(A.adjust_gamma(image, 2.0)[0, 0], expected, rtol=1e-5)
