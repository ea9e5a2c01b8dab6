from itertools import islice

import numpy as np
import pytest

from kitsjax.config import SamplingSettings
from kitsjax.data.pipeline import batches

PATCH = (12, 12, 12)


def take(cases, count, *, batch_size=4, threads=2, **more):
    settings = SamplingSettings(patch_shape=PATCH, batch_size=batch_size, threads=threads)
    return list(islice(batches(cases, settings, (16, 16, 16), seed=7, **more), count))


def same(a, b):
    return all(np.array_equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def test_shapes_types_and_indices(cases):
    first, second = take(cases, 2)
    assert first["image"].shape == first["label"].shape == (4, 16, 16, 16)
    assert first["label"].dtype == np.uint8
    assert first["index"].tolist() == [0, 1, 2, 3]
    assert second["index"].tolist() == [4, 5, 6, 7]


def test_any_number_of_threads_gives_the_same_batches(cases):
    assert same(take(cases, 6, threads=1), take(cases, 6, threads=8))


def test_another_seed_gives_other_batches(cases):
    settings = SamplingSettings(patch_shape=PATCH, batch_size=4)
    other = next(batches(cases, settings, (16, 16, 16), seed=8))
    assert not np.array_equal(other["image"], take(cases, 1)[0]["image"])


def test_resumed_stream_goes_on_where_it_stopped(cases):
    assert same(take(cases, 4, start=5), take(cases, 9)[5:])


def test_every_case_once_a_pass(cases):
    seen = np.concatenate([b["case"] for b in take(cases, 3)])
    for n in range(0, 12, 3):
        assert sorted(seen[n : n + 3]) == [0, 1, 2]


def test_hosts_share_a_global_batch_without_overlap(cases):
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


def test_hosts_must_divide_the_batch(cases):
    with pytest.raises(ValueError, match="divide"):
        take(cases, 1, hosts=3)
