"""The stream of batches: the same whatever the threads, hosts and resumes, and its labels."""

import math
import threading
from itertools import islice, product

import numpy as np
import pytest

from kitsjax.data.instances import Instance
from kitsjax.data.normalization import make_table
from kitsjax.data.paint_instances import paint_sample
from kitsjax.data.patches import read_patch
from kitsjax.data.pipeline import batches, order_cases
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.data.stored_instances import load_instances, write_instances
from kitsjax.errors import InputError
from kitsjax.settings import PreprocessSettings, SamplingSettings

PATCH = (12, 12, 12)
OVERSIZED = (16, 16, 16)
AS_THEY_ARE = PreprocessSettings(normalize="fixed", intensities=(0, 20_000, 0, 1), dtype="float32")
"""HU are left as they are, so that the test's patches tell where they lie."""


def take(cases, count, *, batch_size=4, threads=2, preprocess=AS_THEY_ARE, **more):
    settings = SamplingSettings(patch_shape=PATCH, batch_size=batch_size, threads=threads)
    stream = batches(cases, settings, OVERSIZED, preprocess=preprocess, seed=7, **more)
    return list(islice(stream, count))


def same(a, b):
    return all(np.array_equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def test_shapes_types_and_indices(cases):
    first, second = take(cases, 2)
    assert first["image"].shape == first["label"].shape == (4, 16, 16, 16)
    assert first["label"].dtype == np.uint8
    assert first["index"].tolist() == [0, 1, 2, 3]
    assert second["index"].tolist() == [4, 5, 6, 7]


def test_threads_do_not_change_the_batches(cases):
    assert same(take(cases, 6, threads=1), take(cases, 6, threads=8))


def test_a_batch_may_be_one_patch(cases):
    single = take(cases, 8, batch_size=1)
    assert [batch["index"].tolist() for batch in single] == [[n] for n in range(8)]


def test_all_threads_read_at_once(cases, monkeypatch):
    """Also with fewer batches in advance: each waits for all others at its first patch."""
    settings = SamplingSettings(patch_shape=PATCH, batch_size=1, threads=6, prefetch=1)
    own, others = threading.local(), threading.Barrier(settings.threads, timeout=30)

    def read(*arguments):
        if not hasattr(own, "met"):
            own.met = others.wait()
        return read_patch(*arguments)

    monkeypatch.setattr("kitsjax.data.pipeline.read_patch", read)
    next(batches(cases, settings, OVERSIZED, preprocess=AS_THEY_ARE, seed=7))


NUMBERS = (3000.0, 9000.0, 5000.0, 700.0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("normalize", ["case", "foreground", "fixed"])
def test_patches_are_normalized_hu(cases, normalize, dtype):
    """By each case's own numbers or by those of all; what lies beyond a volume is 0."""
    settings = PreprocessSettings(
        normalize=normalize, intensities=() if normalize == "case" else NUMBERS, dtype=dtype
    )
    outside = 0
    for hu, batch in zip(take(cases, 6), take(cases, 6, preprocess=settings), strict=True):
        assert batch["image"].dtype == dtype
        assert all(np.array_equal(hu[k], batch[k]) for k in ("label", "case", "index"))
        for number, raw, image in zip(hu["case"], hu["image"], batch["image"], strict=True):
            numbers = NUMBERS
            if normalize == "case":
                clipped = cases[number].image()
                low, high = np.percentile(clipped, (0.5, 99.5))
                clipped = np.clip(clipped.astype(float), low, high)
                numbers = low, high, clipped.mean(), clipped.std()
            low, high, mean, deviation = numbers
            expected = np.where(raw > 0, (np.clip(raw.astype(float), low, high) - mean), 0)
            np.testing.assert_allclose(image, expected / deviation, rtol=1e-3, atol=1e-6)
            outside += (raw == 0).sum()
    assert outside > 100


def test_a_table_is_made_once(cases, monkeypatch):
    made = []

    def record(*arguments):
        made.append(arguments)
        return make_table(*arguments)

    monkeypatch.setattr("kitsjax.data.pipeline.make_table", record)
    take(cases, 9, threads=1, preprocess=PreprocessSettings())
    assert len(made) == len({normalization for normalization, _ in made}) == 3
    made.clear()
    take(cases, 9, threads=1)
    assert len(made) == 1, "all cases share the fixed one"


def test_unmeasured_intensities_are_refused(cases):
    with pytest.raises(InputError, match="training measures them"):
        take(cases, 1, preprocess=PreprocessSettings(normalize="foreground"))


def test_another_seed_gives_other_batches(cases):
    settings = SamplingSettings(patch_shape=PATCH, batch_size=4)
    other = next(batches(cases, settings, OVERSIZED, preprocess=AS_THEY_ARE, seed=8))
    assert not np.array_equal(other["image"], take(cases, 1)[0]["image"])


def test_resumed_stream_goes_on_where_it_stopped(cases):
    assert same(take(cases, 4, start=5), take(cases, 9)[5:])


def test_every_case_once_a_pass(cases):
    seen = np.concatenate([b["case"] for b in take(cases, 3)])
    for n in range(0, 12, 3):
        assert sorted(seen[n : n + 3]) == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_pass_has_another_order(count):
    case_at, other = order_cases(count, seed=7), order_cases(count, seed=8)
    passes = [[case_at(n * count + i) for i in range(count)] for n in range(20)]
    assert all(sorted(order) == list(range(count)) for order in passes)
    assert len(set(map(tuple, passes))) == min(math.factorial(count), 20)
    assert count == 1 or passes != [[other(n * count + i) for i in range(count)] for n in range(20)]
    assert case_at(0) == passes[0][0], "a pass that was dropped is drawn again alike"


def test_a_pass_is_ordered_once(monkeypatch):
    """grain's own shuffle draws 65,536 numbers to find the next of a few."""
    drawn = []
    make = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: (drawn.append(seed), make(seed))[1])
    case_at = order_cases(5, seed=7)
    assert {case_at(index) for index in range(20)} == set(range(5))
    assert len(drawn) == 4


def test_hosts_share_a_batch_without_overlap(cases):
    shares = [take(cases, 3, batch_size=6, host=h, hosts=3) for h in range(3)]
    for step in range(3):
        index = np.concatenate([share[step]["index"] for share in shares])
        assert sorted(index) == list(range(6 * step, 6 * step + 6))


@pytest.mark.parametrize("hosts", [1, 2])
def test_foreground_rule_in_every_hosts_share(cases, hosts):
    for host in range(hosts):
        for batch in take(cases, 10, batch_size=6, host=host, hosts=hosts):
            centered = batch["label"][:, 8, 8, 8] > 0
            share = 6 // hosts
            assert centered[: -(-share // 3)].all()


def test_foreground_patches_follow_class_weights(cases):
    settings = SamplingSettings(
        patch_shape=PATCH, batch_size=4, foreground_fraction=0.5, class_weights=(0, 1, 0)
    )
    stream = batches(cases, settings, OVERSIZED, preprocess=AS_THEY_ARE, seed=7)
    found = list(islice(stream, 12))
    assert (np.array([batch["label"][:2, 8, 8, 8] for batch in found]) == 2).all()


def test_hosts_must_divide_the_batch(cases):
    with pytest.raises(ValueError, match="divide"):
        take(cases, 1, hosts=3)


@pytest.fixture
def annotated(cases):
    """Each case with three annotations of a kidney and a cyst that overlap, random dots both."""
    rng = np.random.default_rng(0)
    for case in cases:
        region = tuple(slice(2, n - 1) for n in case.shape)
        masks = rng.random((2, 3, *(n - 3 for n in case.shape))) < 0.4
        kinds = zip(("kidney", "cyst"), masks, strict=True)
        instances = [Instance(kind, 1, region, drawn) for kind, drawn in kinds]
        write_instances(case.folder / "annotations", instances)
    return [PreprocessedCase(case.folder, case.folder / "annotations") for case in cases]


def whole_label(case, choice):
    return paint_sample(load_instances(case.annotations), choice, case.shape)


def visits(cases, stream):
    """Case, start and label of every patch; the image's voxels tell where it lies."""
    for batch in stream:
        for number, image, label in zip(batch["case"], batch["image"], batch["label"], strict=True):
            inside = np.argwhere(image)[0]
            place = np.unravel_index(int(image[tuple(inside)]) - 1, cases[number].shape)
            yield (
                cases[number],
                tuple(int(a - b) for a, b in zip(place, inside, strict=True)),
                label,
            )


def test_label_source_leaves_patches_in_place(annotated):
    majority = take(annotated, 6)
    for source in ("annotator_1", "sample"):
        other = take(annotated, 6, label_source=source)
        for one, two in zip(majority, other, strict=True):
            assert all(np.array_equal(one[k], two[k]) for k in ("image", "case", "index"))
    for case, start, label in visits(annotated, majority):
        np.testing.assert_array_equal(label, read_patch(case.label(), start, OVERSIZED))


def test_annotator_label_is_what_they_drew(annotated):
    drawn = {c.case_id: whole_label(c, (1, 1)) for c in annotated}
    stream = take(annotated, 6, label_source="annotator_2")
    for case, start, label in visits(annotated, stream):
        np.testing.assert_array_equal(label, read_patch(drawn[case.case_id], start, OVERSIZED))


def test_every_visit_draws_each_instance_apart(annotated):
    """Nine samples of a case: 80 visits miss one of them with a probability of 9 (8/9)**80."""
    case = annotated[0]
    choices = product(range(3), range(3))
    samples = [whole_label(case, choice) for choice in choices]
    seen = set()
    for _, start, label in visits([case], take([case], 20, label_source="sample")):
        patches = [read_patch(sample, start, OVERSIZED) for sample in samples]
        (index,) = [i for i, patch in enumerate(patches) if np.array_equal(label, patch)]
        seen.add(index)
    assert len(seen) == 9


def test_samples_ignore_threads_resumes_and_hosts(annotated):
    whole = take(annotated, 6, label_source="sample")
    assert same(whole, take(annotated, 6, label_source="sample", threads=8))
    assert same(whole[4:], take(annotated, 2, label_source="sample", start=4))
    for host in range(2):
        share = take(annotated, 6, label_source="sample", host=host, hosts=2)
        for one, part in zip(whole, share, strict=True):
            assert (one["index"][host::2] == part["index"]).all()
            np.testing.assert_array_equal(one["label"][host::2], part["label"])


def test_case_without_annotations_is_named(cases):
    with pytest.raises(InputError, match=r"case_0000.*: has no annotations; preprocess"):
        take(cases, 1, label_source="sample")
