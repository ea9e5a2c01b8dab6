"""The pseudo-Dice and its counts, worked out by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.labels import KITS
from kitsjax.model.pseudo_dice import dice_counts, pseudo_dice

average = jax.jit(pseudo_dice)


def volume(*values):
    return jnp.asarray(values)[None, None, None]


def test_dice_counts_by_hand():
    predicted = volume(1, 1, 2, 0, 0)
    label = volume(1, 2, 2, 0, 1)
    # Rows are classes; columns true positive, false positive, false negative.
    expected = [[1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 0, 0]]
    count = jax.jit(partial(dice_counts, scheme=KITS))
    found = count(jax.nn.one_hot(predicted, 4), label)
    np.testing.assert_array_equal(found, expected)
    # Class 1: 2 / 4, class 2: 2 / 3; class 3 is absent from both and left out.
    assert average(found) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_pseudo_dice_of_extremes():
    assert average(jnp.zeros((4, 3))) == 0
    only_false = jnp.zeros((4, 3)).at[2, 1].set(5)
    assert average(only_false) == 0
    perfect_counts = jnp.zeros((4, 3)).at[1:3, 0].set(2**24)
    assert average(perfect_counts) == 1
