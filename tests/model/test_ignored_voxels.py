"""Voxels that nobody annotated: they count in no term of the loss and in no score."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from kitsjax.labels import KITS
from kitsjax.make_scheme import make_scheme
from kitsjax.model.losses import deep_supervision_loss, loss_terms
from kitsjax.model.pseudo_dice import dice_counts
from kitsjax.model.regions import class_probabilities
from kitsjax.settings import LabelSettings, LossSettings

PARTLY = replace(KITS, ignore=4)
ALL = loss_terms(LossSettings())
TERMS = {name: partial(term, scheme=PARTLY) for name, (_, term) in ALL.items()}
SHAPE = (3, 5, 6, 7)
SETTINGS = [
    LossSettings(regions=regions, dice_per_batch=per_batch)
    for regions in (False, True)
    for per_batch in (False, True)
]
every_setting = pytest.mark.parametrize(
    "settings", SETTINGS, ids=["classes", "classes-batch", "regions", "regions-batch"]
)
descend = {
    name: jax.jit(jax.value_and_grad(term), static_argnums=2) for name, term in TERMS.items()
}


def random_case(settings):
    """Logits; and a label that ignores a corner, some voxels, and all of the last sample."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(*SHAPE, 3 if settings.regions else 4)).astype(np.float32)
    label = rng.integers(0, 4, SHAPE)
    label[rng.random(SHAPE) < 0.02] = PARTLY.ignore
    label[0, :2, :3, :3] = label[2] = PARTLY.ignore
    return jnp.asarray(logits), label


def surfaces(masks):
    """The range of the eight voxels around each corner; masks (class, b, z, y, x)."""
    cubes = np.lib.stride_tricks.sliding_window_view(masks, (2, 2, 2), axis=(2, 3, 4))
    return cubes.max((-3, -2, -1)) - cubes.min((-3, -2, -1))


def in_numpy(name, logits, label, settings):
    """The documented formula over the annotated voxels alone, in double precision."""
    logits, known = np.asarray(logits, np.float64), label != PARTLY.ignore
    unions = [each.labels for each in KITS.evaluation]
    truth = np.stack([label == value for value in range(4)], -1)
    if settings.regions:
        truth = np.stack([np.isin(label, union) for union in unions], -1)
    if name == "cross_entropy":
        if settings.regions:
            return (np.logaddexp(0, logits) - logits * truth)[known].mean()
        return (np.logaddexp.reduce(logits, -1) - (logits * truth).sum(-1))[known].mean()
    if name == "dice":
        probability = 1 / (1 + np.exp(-logits))
        if not settings.regions:
            probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            probability, truth = probability[..., 1:], truth[..., 1:]
        seen = known[..., None]
        above, below = 2 * probability * truth * seen, (probability + truth) * seen
        sums = np.stack([part.sum((1, 2, 3)) for part in (above, below)])
        smooth = settings.dice_smooth
    else:
        float32 = jnp.asarray(logits, jnp.float32)
        by_class = class_probabilities(float32, KITS, regions=settings.regions)
        one_hot = np.stack([label == value for value in range(4)], -1)
        found, true = (
            surfaces(np.stack([part[..., list(u)].sum(-1) for u in unions]))
            for part in (np.asarray(by_class), one_hot.astype(float))
        )
        corners = np.lib.stride_tricks.sliding_window_view(known, (2, 2, 2), axis=(1, 2, 3))
        whole = corners.all((-3, -2, -1))
        found, true = found * whole, true * whole
        widen = partial(ndimage.maximum_filter, size=(1, 1, 3, 3, 3), mode="constant")
        near = found * widen(true) + true * widen(found)
        sums = np.stack([part.sum((2, 3, 4)).T for part in (near, found + true)])
        smooth = 1
    if settings.dice_per_batch:
        above, below = sums.sum(1)
        return -((above + smooth) / (below + smooth)).mean()
    scores = (sums[0] + smooth) / (sums[1] + smooth)
    scores[~known.any((1, 2, 3))] = 0
    return -scores.mean()


@every_setting
@pytest.mark.parametrize("name", TERMS)
def test_loss_is_that_of_the_other_voxels(name, settings):
    logits, label = random_case(settings)
    found, gradient = descend[name](logits, jnp.asarray(label), settings)
    assert found == pytest.approx(in_numpy(name, logits, label, settings), rel=1e-5)
    ignored = label == PARTLY.ignore
    assert (np.asarray(gradient)[ignored] == 0).all()
    assert np.abs(np.asarray(gradient)[~ignored]).max() > 1e-5


@every_setting
@pytest.mark.parametrize("name", TERMS)
def test_logits_of_ignored_voxels_do_not_matter(name, settings):
    logits, label = random_case(settings)
    ignored = jnp.asarray(label == PARTLY.ignore)[..., None]
    other = jnp.where(ignored, 1e30 * logits, logits)
    expected, found = (descend[name](x, jnp.asarray(label), settings) for x in (logits, other))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@every_setting
@pytest.mark.parametrize("name", TERMS)
def test_a_patch_wholly_ignored_has_no_loss(name, settings):
    logits, label = random_case(settings)
    found, gradient = descend[name](logits, jnp.full_like(label, 4), settings)
    assert found == 0
    assert (np.asarray(gradient) == 0).all()


@every_setting
def test_devices_share_the_annotated_voxels(settings):
    """Loss and gradient do not depend on which device has how many of them."""
    count = 3
    if len(jax.devices()) < count:
        pytest.skip("needs several devices: --xla_force_host_platform_device_count")
    settings = settings.model_copy(update={"boundary_weight": 1.0})
    logits, label = random_case(settings)
    label = jnp.asarray(label)

    def loss(scale, logits, label, axis_name=None):
        outputs = (scale * logits,)
        return deep_supervision_loss(outputs, label, settings, axis_name, scheme=PARTLY)

    def device_step(logits, label):
        found = jax.value_and_grad(loss)(1.0, logits, label, "device")
        return jax.lax.pmean(found, "device")

    expected = jax.jit(jax.value_and_grad(loss))(1.0, logits, label)
    step = jax.pmap(device_step, axis_name="device", devices=jax.devices()[:count])
    found = step(logits[:, None], label[:, None])
    # The terms all but cancel.
    np.testing.assert_allclose([found[0][0], found[1][0]], expected, rtol=1e-5, atol=2e-6)


def test_without_ignored_voxels_nothing_changes():
    """Nor with the names of the labels; a program that ignores voxels is another one."""
    renamed = make_scheme(LabelSettings(names=("liver", "vessel", "tumor")))
    renamed = replace(renamed, evaluation=KITS.evaluation)
    label = jnp.zeros((1, 8, 8, 8), jnp.int32)
    outputs = (jnp.zeros((1, 8, 8, 8, 4)), jnp.zeros((1, 4, 4, 4, 4)))

    def program(scheme):
        settings = LossSettings(boundary_weight=1.0)
        loss = partial(deep_supervision_loss, label=label, settings=settings, scheme=scheme)
        return str(jax.make_jaxpr(jax.grad(loss))(outputs))

    assert program(KITS) == program(renamed)
    assert len(program(PARTLY)) > len(program(KITS))


@pytest.mark.parametrize("regions", [False, True])
def test_ignored_voxels_are_not_counted(regions):
    logits, label = random_case(LossSettings(regions=regions))
    counts = np.asarray(dice_counts(logits, jnp.asarray(label), PARTLY, regions=regions))
    predicted = class_probabilities(logits, KITS, regions=True) if regions else logits
    predicted, known = np.asarray(predicted.argmax(-1)), label < 4
    pairs = [(predicted[known] == value, label[known] == value) for value in range(4)]
    expected = [[(p & t).sum(), (p & ~t).sum(), (~p & t).sum()] for p, t in pairs]
    np.testing.assert_array_equal(counts, expected)
