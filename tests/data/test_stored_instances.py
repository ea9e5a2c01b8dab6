"""Stored instances: resampled as the painted label map is, and read back by memory mapping."""

import numpy as np
import pytest
from made_instances import random_choice, random_instances

from kitsjax.data.instances import Instance
from kitsjax.data.paint_instances import paint_sample
from kitsjax.data.stored_instances import load_instances, resample_instance, write_instances
from kitsjax.errors import InputError
from kitsjax.image.resample import resample_nearest


@pytest.mark.parametrize("seed", range(30))
def test_painting_resampled_is_resampling_painted(seed):
    rng = np.random.default_rng(seed)
    shape, new_shape = (tuple(int(n) for n in rng.integers(2, 20, 3)) for _ in range(2))
    instances = random_instances(rng, shape)
    resampled = [resample_instance(instance, shape, new_shape) for instance in instances]
    for _ in range(5):
        choice = random_choice(rng, instances)
        expected = resample_nearest(paint_sample(instances, choice, shape), new_shape)
        np.testing.assert_array_equal(paint_sample(resampled, choice, new_shape), expected)


def test_instance_between_voxels_keeps_its_place():
    """Of eight voxels in two, numbers 2 and 6 are taken: an instance on 3 and 4 is lost."""
    box = (slice(0, 1), slice(0, 1), slice(3, 5))
    lost = resample_instance(
        Instance("cyst", 2, box, np.ones((3, 1, 1, 2), bool), (1, 2, 4)), (1, 1, 8), (1, 1, 2)
    )
    assert (lost.kind, lost.number, lost.annotations) == ("cyst", 2, (1, 2, 4))
    assert lost.masks.shape == (3, 1, 1, 0)
    kidney = Instance("kidney", 1, (slice(0, 1),) * 3, np.ones((2, 1, 1, 1), bool))
    assert paint_sample([kidney, lost], (1, 2), (1, 1, 2)).ravel().tolist() == [1, 0]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_stored_instances_come_back_memory_mapped(tmp_path, count):
    instances = random_instances(np.random.default_rng(1), (9, 8, 7))[-count:] if count else []
    assert write_instances(tmp_path / "annotations", instances)
    found = load_instances(tmp_path / "annotations")
    assert len(found) == count
    for one, two in zip(instances, found, strict=True):
        assert (one.kind, one.number, one.region) == (two.kind, two.number, two.region)
        assert two.annotations == tuple(range(1, len(one.masks) + 1))
        # An empty view of a map is an array like any other.
        assert isinstance(two.masks, np.memmap) or not one.masks.size
        np.testing.assert_array_equal(one.masks, two.masks)
    assert not write_instances(tmp_path / "annotations", []), "stored instances never change"
    assert len(load_instances(tmp_path / "annotations")) == count


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", '{"instances": null}', None])
def test_damaged_instances_are_named(tmp_path, content):
    """Also while a run trains, where the record or the whole folder may vanish."""
    folder = tmp_path / "annotations"
    with pytest.raises(InputError, match=r"annotations/masks.npy: cannot be read .*makes it again"):
        load_instances(folder)
    write_instances(folder, random_instances(np.random.default_rng(1), (9, 8, 7)))
    load_instances(folder)
    record = folder / "instances.json"
    record.unlink() if content is None else record.write_text(content)
    with pytest.raises(InputError, match=r"instances.json: cannot be read .*makes it again"):
        load_instances(folder)
