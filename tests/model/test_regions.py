"""Regions and the classes that they give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.labels import CYST, KITS, TUMOR
from kitsjax.make_scheme import make_scheme
from kitsjax.model.pseudo_dice import dice_counts
from kitsjax.model.regions import class_probabilities, region_truth
from kitsjax.model.unet import UNet
from kitsjax.settings import EvaluationSettings, LabelSettings

UNIONS = [set(each.labels) for each in KITS.evaluation]


def logit(probability):
    probability = jnp.asarray(probability, jnp.float32)
    return jnp.log(probability / (1 - probability))


def by_class(probability):
    return class_probabilities(logit(probability), KITS, regions=True)


def test_truth_of_every_label():
    found = region_truth(jnp.arange(4).reshape(1, 1, 1, 4), KITS)
    # Background, kidney, tumor, cyst; kidney and mass, mass, tumor.
    np.testing.assert_array_equal(found[0, 0, 0], [[0, 0, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        # Background, kidney, tumor, cyst.
        ((0.9, 0.6, 0.1), (0.1, 0.3, 0.1, 0.5)),
        ((0.9, 0.2, 0.6), (0.1, 0.7, 0.2, 0.0)),
        ((0.2, 0.9, 0.5), (0.8, 0.0, 0.2, 0.0)),
    ],
)
def test_classes_by_hand(regions, expected):
    np.testing.assert_allclose(by_class(regions), expected, atol=1e-6)


def test_classes_are_those_of_monotone_regions():
    logits = 4 * jax.random.normal(jax.random.key(0), (5, 3, 200))
    found = np.asarray(class_probabilities(logits, KITS, regions=True, axis=1))
    assert found.shape == (5, 4, 200)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    monotone = np.minimum.accumulate(np.asarray(jax.nn.sigmoid(logits)), axis=1)
    for number, union in enumerate(UNIONS):
        np.testing.assert_allclose(found[:, sorted(union)].sum(1), monotone[:, number], atol=1e-6)


def test_extreme_logits_have_finite_slopes():
    logits = jnp.asarray(np.random.default_rng(0).choice([-1e30, 0.0, 1e30], (40, 3)), jnp.float32)
    value, slope = jax.value_and_grad(
        lambda x: class_probabilities(x, KITS, regions=True)[:, 2].sum()
    )(logits)
    assert jnp.isfinite(value)
    assert jnp.isfinite(slope).all()


def test_without_regions_it_is_the_softmax():
    logits = jax.random.normal(jax.random.key(0), (2, 4, 5))
    found = class_probabilities(logits, KITS, regions=False, axis=1)
    np.testing.assert_array_equal(found, jax.nn.softmax(logits, axis=1))


def test_counts_are_of_the_most_probable_class():
    # These are a cyst, a tumor, a kidney and background.
    voxels = [(0.9, 0.8, 0.3), (0.9, 0.9, 0.8), (0.9, 0.3, 0.9), (0.4, 0.9, 0.9)]
    logits = logit(voxels)[None, None, None]
    label = jnp.asarray([CYST, TUMOR, TUMOR, 0])[None, None, None]
    counts = dice_counts(logits, label, KITS, regions=True)
    np.testing.assert_array_equal(counts, [[1, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0]])


def test_network_of_regions_has_three_channels():
    network = UNet((2, 4), deep_supervision=1, classes=4, regions=True)
    shape = jax.ShapeDtypeStruct((1, 8, 8, 8, 1), jnp.float32)
    (logits,), _ = jax.eval_shape(network.init_with_output, jax.random.key(0), shape)
    assert logits.shape == (1, 8, 8, 8, 3)


def test_regions_of_another_organ():
    """Two regions: the liver with its tumors, and the tumors."""
    classes = {
        "all": EvaluationSettings(labels=("liver", "tumor")),
        "tumor": EvaluationSettings(labels=("tumor",)),
    }
    liver = make_scheme(LabelSettings(names=("liver", "tumor"), evaluation=classes))
    found = class_probabilities(logit([0.9, 0.3]), liver, regions=True)
    np.testing.assert_allclose(found, [0.1, 0.6, 0.3], atol=1e-6)
    truth = region_truth(jnp.arange(3).reshape(1, 1, 1, 3), liver)
    np.testing.assert_array_equal(truth[0, 0, 0], [[0, 0], [1, 0], [1, 1]])
