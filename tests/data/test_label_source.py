"""Label sources: which annotations they choose, and patches as if the volume had been painted."""

from itertools import product

import numpy as np
import pytest
from made_instances import random_choice, random_instances

from kitsjax.data.instances import Instance
from kitsjax.data.label_source import annotator_number, choose_annotations, paint_patch
from kitsjax.data.paint_instances import paint_sample
from kitsjax.data.patches import read_patch


@pytest.mark.parametrize("seed", range(30))
def test_painted_patch_is_patch_of_painted_volume(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, 20, 3))
    instances = random_instances(rng, shape)
    for _ in range(20):
        choice = random_choice(rng, instances)
        start = tuple(int(n) for n in rng.integers(-12, 20, 3))
        size = tuple(int(n) for n in rng.integers(1, 15, 3))
        expected = read_patch(paint_sample(instances, choice, shape), start, size)
        patch = paint_patch(instances, choice, start, size)
        assert patch.dtype == np.uint8
        np.testing.assert_array_equal(patch, expected)


def annotated_by(annotators, numbers=()):
    masks = np.ones((annotators, 1, 1, 1), bool)
    return Instance("cyst", 1, (slice(0, 1),) * 3, masks, numbers)


def test_label_sources_name_annotators():
    numbers = [annotator_number(s) for s in ("majority", "sample", "annotator_1", "annotator_12")]
    assert numbers == [None, None, 1, 12]


def test_annotator_by_file_number_else_in_turn():
    instances = [annotated_by(3), annotated_by(1), annotated_by(2, (2, 5))]
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    # The last has annotations 2 and 5: 1, 3 and 4 are the first, the first and the second of two.
    expected = {1: (0, 0, 0), 2: (1, 0, 0), 3: (2, 0, 0), 4: (0, 0, 1), 5: (1, 0, 1)}
    for number, choice in expected.items():
        assert choose_annotations(instances, f"annotator_{number}", rng) == choice
    assert rng.bit_generator.state == before, "nothing is to be drawn"


def test_samples_are_uniform_and_independent():
    rng = np.random.default_rng(0)
    instances = [annotated_by(3), annotated_by(2), annotated_by(1)]
    draws = [choose_annotations(instances, "sample", rng) for _ in range(1200)]
    for choice in product(range(3), range(2), range(1)):
        # 1200 draws at 1/6: sd is 12.9.
        assert abs(draws.count(choice) - 200) < 65
