"""Individual annotations at working spacing: as if painted first, resampled and read afterwards."""

import json
from itertools import product

import numpy as np
import pytest

from kitsjax.data.annotations import Instance, paint_sample, read_instances
from kitsjax.data.kits import find_cases
from kitsjax.data.label_source import (
    ANNOTATIONS,
    choose_annotations,
    load_instances,
    paint_patch,
    resample_instance,
    write_instances,
)
from kitsjax.data.patches import read_patch
from kitsjax.data.preprocess import preprocess_cases
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.image.read_nifti import read_label
from kitsjax.image.resample import resample_label
from kitsjax.phantom.dataset import make_phantom
from kitsjax.prepare import prepare_data
from kitsjax.settings import DataSettings, PhantomSettings, PreprocessSettings

KINDS = ("kidney", "kidney", "tumor", "cyst", "cyst")


def random_instances(rng, shape):
    """Five that overlap, of two to four annotations: random dots in random boxes, one empty."""
    instances = []
    for number, kind in enumerate(KINDS, 1):
        bounds = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
        region = tuple(slice(int(a), int(b)) for a, b in bounds)
        if number == 5:
            region = (slice(0, 0),) * 3
        size = [span.stop - span.start for span in region]
        masks = rng.random((int(rng.integers(2, 5)), *size)) < 0.6
        instances.append(Instance(kind, number, region, masks))
    return instances


def random_choice(rng, instances):
    return tuple(int(rng.integers(len(instance.masks))) for instance in instances)


@pytest.mark.parametrize("seed", range(30))
def test_painting_resampled_annotations_is_resampling_the_painted(seed):
    rng = np.random.default_rng(seed)
    shape, new_shape = (tuple(int(n) for n in rng.integers(2, 20, 3)) for _ in range(2))
    instances = random_instances(rng, shape)
    resampled = [resample_instance(instance, shape, new_shape) for instance in instances]
    for _ in range(5):
        choice = random_choice(rng, instances)
        expected = resample_label(paint_sample(instances, choice, shape), new_shape)
        np.testing.assert_array_equal(paint_sample(resampled, choice, new_shape), expected)


def test_an_instance_between_large_voxels_keeps_its_place():
    """Of eight voxels in two, numbers 2 and 6 are taken: an instance on 3 and 4 is lost."""
    box = (slice(0, 1), slice(0, 1), slice(3, 5))
    lost = resample_instance(
        Instance("cyst", 2, box, np.ones((3, 1, 1, 2), bool), (1, 2, 4)), (1, 1, 8), (1, 1, 2)
    )
    assert (lost.kind, lost.number, lost.annotations) == ("cyst", 2, (1, 2, 4))
    assert lost.masks.shape == (3, 1, 1, 0)
    kidney = Instance("kidney", 1, (slice(0, 1),) * 3, np.ones((2, 1, 1, 1), bool))
    assert paint_sample([kidney, lost], (1, 2), (1, 1, 2)).ravel().tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(30))
def test_a_painted_patch_is_the_patch_of_the_painted_volume(seed):
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


def of(annotations):
    return Instance("cyst", 1, (slice(0, 1),) * 3, np.ones((len(annotations), 1, 1, 1), bool), ())


def test_an_annotator_goes_by_the_files_number_and_else_goes_round():
    gap = Instance("tumor", 1, (slice(0, 1),) * 3, np.ones((2, 1, 1, 1), bool), (2, 5))
    instances = [of("abc"), of("a"), gap]
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    # The gap has annotations 2 and 5: 1, 3 and 4 are the first, the first and the second of two.
    expected = {1: (0, 0, 0), 2: (1, 0, 0), 3: (2, 0, 0), 4: (0, 0, 1), 5: (1, 0, 1)}
    for number, choice in expected.items():
        assert choose_annotations(instances, f"annotator_{number}", rng) == choice
    assert rng.bit_generator.state == before, "nothing is to be drawn"


def test_samples_are_uniform_and_instances_independent():
    rng = np.random.default_rng(0)
    instances = [of("abc"), of("ab"), of("a")]
    draws = [choose_annotations(instances, "sample", rng) for _ in range(1200)]
    for choice in product(range(3), range(2), range(1)):
        # 1200 draws at 1/6: sd is 12.9.
        assert abs(draws.count(choice) - 200) < 65


@pytest.mark.parametrize("count", [0, 1, 5])
def test_stored_instances_come_back_memory_mapped(tmp_path, count):
    instances = random_instances(np.random.default_rng(1), (9, 8, 7))[-count:] if count else []
    write_instances(tmp_path / "annotations", instances, [["a", 1]])
    found = load_instances(tmp_path / "annotations")
    assert len(found) == count
    for one, two in zip(instances, found, strict=True):
        assert (one.kind, one.number, one.region) == (two.kind, two.number, two.region)
        assert two.annotations == tuple(range(1, len(one.masks) + 1))
        # An empty view of a map is an array like any other.
        assert isinstance(two.masks, np.memmap) or not one.masks.size
        np.testing.assert_array_equal(one.masks, two.masks)
    stored = json.loads((tmp_path / "annotations" / "instances.json").read_text())
    assert stored["inputs"] == [["a", 1]]


def test_a_phantoms_annotations_are_preprocessed_as_its_label_is(tmp_path):
    make_phantom(tmp_path / "raw", 1, 64, seed=2, workers=1, progress=False)
    cases = find_cases(tmp_path / "raw")
    report = preprocess_cases(
        cases, tmp_path / "out", PreprocessSettings(spacing_mm=4.0), 1, annotations=True
    )
    assert (report.made, report.failures) == (1, [])
    preprocessed = PreprocessedCase(tmp_path / "out" / "case_00000")
    truth = read_label(cases[0].label)
    native, stored = (
        read_instances(cases[0].annotations, truth),
        load_instances(preprocessed.folder / ANNOTATIONS),
    )
    choice = random_choice(np.random.default_rng(0), native)
    expected = resample_label(paint_sample(native, choice, truth.shape), preprocessed.shape)
    assert set(np.unique(expected)) > {0, 1}
    whole = paint_patch(stored, choice, (0, 0, 0), preprocessed.shape)
    np.testing.assert_array_equal(whole, expected)


def test_missing_annotations_are_named(tmp_path):
    with pytest.raises(InputError, match="none: no such annotations"):
        load_instances(tmp_path / "none")


def test_an_annotator_of_whom_there_is_nothing_is_refused(tmp_path):
    folder = tmp_path / "case_00000"
    (folder / "segmentations").mkdir(parents=True)
    for name in ("imaging", "aggregated_MAJ_seg", "segmentations/kidney_instance-1_annotation-3"):
        (folder / f"{name}.nii.gz").touch()
    asked = DataSettings(root=str(tmp_path), label_source="annotator_9")
    with pytest.raises(InputError, match=r"no case has an annotation 9 .*another annotator"):
        prepare_data(asked, PhantomSettings(), PreprocessSettings())
