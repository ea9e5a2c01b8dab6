"""Prediction by slabs: the same on any number of devices, whole batches, errors, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from voxel_models import Positional, random_image, voxel_model

from kitsjax.infer.predict import predict_label, predict_probabilities
from kitsjax.infer.predict_slabs import predict_slabs
from kitsjax.infer.slab_sums import (
    SLAB_PLANES,
    SlabSums,
    add_window,
    drop_planes,
    finish_planes,
    sums_shape,
)
from kitsjax.infer.sliding_window import importance_map, normalize_sums, sum_windows
from kitsjax.infer.trained_model import stack_models
from kitsjax.infer.window_program import predict_windows
from kitsjax.settings import PredictSettings

SETTINGS = PredictSettings(bucket=16)


def use_devices(monkeypatch, number):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:number])


@pytest.fixture
def batches(monkeypatch):
    """The shape of each batch of windows that was predicted."""
    shapes = []

    def record(params, importance, patches, **kwargs):
        shapes.append(patches.shape)
        return predict_windows(params, importance, patches, **kwargs)

    monkeypatch.setattr("kitsjax.infer.window_program.predict_windows", record)
    return shapes


@pytest.mark.parametrize(("mirror", "members", "batch_size"), [(False, 1, 1), (True, 2, 2)])
def test_devices_give_the_same_bits(monkeypatch, small_models, mirror, members, batch_size):
    """The windows are added in the same order, whichever device computes them."""
    settings = PredictSettings(bucket=16, mirror=mirror, batch_size=batch_size)
    ensemble, image = stack_models(small_models[:members]), random_image((17, 12, 40))
    found = []
    for number in (1, 3, 8):
        use_devices(monkeypatch, number)
        found.append(predict_probabilities(ensemble, image, settings))
        label = predict_label(ensemble, image, settings)
        np.testing.assert_array_equal(label, found[0].argmax(0))
    assert len(np.unique(label)) > 1
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_slabs_are_the_sum_in_one_program():
    """To rounding: some versions of XLA round once for a product and its addition in a program."""
    ensemble, image = stack_models(voxel_model(Positional())), random_image((20, 12, 25))
    importance = importance_map((8, 8, 8), "gaussian")
    add_up = jax.jit(sum_windows, static_argnames=("network", "valid_shape", "settings", "scheme"))
    network, params, scheme = ensemble.model.network, ensemble.params, ensemble.model.scheme
    sums = add_up(network, params, image, image.shape, importance, settings=SETTINGS, scheme=scheme)
    found, expected = predict_probabilities(ensemble, image, SETTINGS), normalize_sums(sums)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(found.argmax(0), expected.argmax(0))


def test_all_devices_get_a_share(batches, monkeypatch):
    """There are 3 x 2 x 1 windows."""
    for number, expected in [(1, [1] * 6), (4, [4] * 2), (8, [8])]:
        use_devices(monkeypatch, number)
        predict_label(stack_models(voxel_model(Positional())), random_image((16, 12, 8)), SETTINGS)
        assert [shape[0] for shape in batches] == expected
        batches.clear()


def test_the_next_batch_begins_before_the_wait(monkeypatch):
    """Two batches are under way at most, and never fewer while there are more to begin."""
    use_devices(monkeypatch, 1)
    begun, events = [], []

    def begin(*args, **kwargs):
        begun.append(predict_windows(*args, **kwargs))
        events.append(f"begin {len(begun)}")
        return begun[-1]

    def wait(array):
        if array is not None:
            number = next(n for n, one in enumerate(begun, start=1) if one is array)
            events.append(f"wait for {number}")

    monkeypatch.setattr("kitsjax.infer.window_program.predict_windows", begin)
    monkeypatch.setattr(jax, "block_until_ready", wait)
    predict_label(stack_models(voxel_model(Positional())), random_image((16, 8, 8)), SETTINGS)
    assert events == ["begin 1", "begin 2", "wait for 1", "begin 3", "wait for 2"]


def collect(images, by_class=False):
    """Predict images together; return the joined slabs or the error of each key."""
    ensemble, found = stack_models(voxel_model(Positional())), {}
    stacked = ((key, image[None]) for key, image in images.items())
    for key, slab in predict_slabs(ensemble, stacked, SETTINGS, by_class):
        assert key == list(images)[len(found.keys() | {key}) - 1], "in the order of the images"
        assert not isinstance(found.get(key), Exception), "nothing comes after an error"
        if isinstance(slab, Exception):
            found[key] = slab
        else:
            found.setdefault(key, []).append(slab.read())
    return {
        key: np.concatenate(slabs, -3) if isinstance(slabs, list) else slabs
        for key, slabs in found.items()
    }


def test_small_images_share_a_batch(batches):
    """Eight images of one to six windows fill the batches of eight devices."""
    images = {n: random_image((8 + 4 * (n % 3), 8, 5 + n), n) for n in range(8)}
    found = collect(images)
    ensemble, windows = stack_models(voxel_model(Positional())), 0
    together = len(batches)
    for n, image in images.items():
        batches.clear()
        np.testing.assert_array_equal(found[n], predict_label(ensemble, image, SETTINGS))
        windows += (1 + n % 3) * (1 if 5 + n <= 8 else 2)
    assert together == -(-windows // 8)


@pytest.mark.parametrize("devices", [1, 3, 8])
@pytest.mark.parametrize("bad", [{0}, {1}, {2}, {0, 2}, {0, 1, 2}])
def test_an_image_without_windows_keeps_its_place(monkeypatch, devices, bad):
    """Its sums take memory, which may lack; the slabs of each image still come together."""
    use_devices(monkeypatch, devices)
    images = {n: random_image((12, 8, 8 + 4 * n), n) for n in range(3)}
    expected = {n: label for n, label in collect(images).items() if n not in bad}

    def begin(image, *args, **kwargs):
        if any(image.shape[1:] == images[n].shape for n in bad):
            raise MemoryError("no room")
        return SlabSums(image, *args, **kwargs)

    monkeypatch.setattr("kitsjax.infer.predict_slabs.SlabSums", begin)
    ensemble = stack_models(voxel_model(Positional()))
    pairs = [(n, image[None]) for n, image in images.items()]
    keys = [n for n, _ in predict_slabs(ensemble, pairs, SETTINGS, by_class=False)]
    assert keys == sorted(keys)
    found = collect(images)
    assert {n for n, each in found.items() if isinstance(each, MemoryError)} == bad
    for n, label in expected.items():
        np.testing.assert_array_equal(found[n], label)


@pytest.mark.parametrize("where", ["add_window", "predict_windows"])
def test_an_image_that_fails_leaves_the_others(monkeypatch, where):
    """Whether its windows cannot be added or, on one device, not be predicted."""
    use_devices(monkeypatch, 1)
    images = {name: random_image((12, 8, 8), n) for n, name in enumerate("abc")}
    expected = collect(images)
    module = {"add_window": "slab_sums", "predict_windows": "window_program"}[where]
    real, calls = {"add_window": add_window, "predict_windows": predict_windows}[where], []

    def failing(*args, **kwargs):
        calls.append(None)
        # The second window of the second image.
        if len(calls) == 4:
            raise MemoryError("no room")
        return real(*args, **kwargs)

    monkeypatch.setattr(f"kitsjax.infer.{module}.{where}", failing)
    found = collect(images)
    assert isinstance(found.pop("b"), MemoryError)
    assert found.keys() == {"a", "c"}
    for key, label in found.items():
        np.testing.assert_array_equal(label, expected[key])


def test_no_array_grows_with_z():
    """The largest arrays on the devices are the sums and a batch, however long the CT is."""
    ensemble = stack_models(voxel_model(Positional()))
    largest, together = {}, {}
    for depth in (40, 200):
        images = [("image", random_image((1, depth, 24, 24)))]
        # The list keeps the arrays alive, so that no new one can get the id of one that was freed.
        others = jax.live_arrays()
        ids = {id(array) for array in others}
        sizes = [
            [array.nbytes for array in jax.live_arrays() if id(array) not in ids]
            for _ in predict_slabs(ensemble, images, SETTINGS, by_class=True)
        ]
        largest[depth] = max(max(each) for each in sizes)
        together[depth] = max(sum(each) for each in sizes)
    # Eight windows of 8 cubed, and the sums over 8 planes of 32 x 32.
    batch, sums = 4 * 4 * 8 * 8**3, 4 * 4 * 8 * 32**2
    assert largest[40] == largest[200] == max(batch, sums)
    # Two batches, each where it was computed and on the first device; some slabs of 8 planes.
    assert together[200] <= together[40] < 4 * batch + 4 * sums


@pytest.mark.parametrize("classes", [4, 100])
def test_long_cts_fit_at_any_number_of_classes(classes):
    """The bound of the documentation, for 512 x 512 x 1500 voxels at 0.8 mm: by XLA's count."""
    shape = sums_shape((1500, 512, 512), (128, 128, 128), 64)
    assert shape == (128, 512, 512)
    sums = jax.ShapeDtypeStruct((classes, *shape), np.float32)
    windows = jax.ShapeDtypeStruct((1, classes, 128, 128, 128), np.float32)
    number = jax.ShapeDtypeStruct((), np.int32)
    corner = jax.ShapeDtypeStruct((2,), np.int32)
    sums_bytes, plane = classes * 128 * 512**2 * 4, classes * 512**2 * 4

    def added(lowered):
        """Count what a program takes beyond its arguments."""
        memory = lowered.compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes

    assert sums_bytes == {4: 512 * 2**20, 100: 12_800 * 2**20}[classes]
    # Adding a window and moving planes take no second array of the sums' size.
    adding = add_window.lower(sums, windows, number, corner)
    assert added(adding) < classes * 128**3 * 4 * 1.1
    assert added(drop_planes.lower(sums, number)) < 2.1 * plane
    for by_class in (False, True):
        lowered = finish_planes.lower(sums, number, planes=SLAB_PLANES, by_class=by_class)
        assert added(lowered) < 3.1 * SLAB_PLANES * plane


@pytest.mark.parametrize("depth", [3, 8, 9, 21, 40])
def test_slabs_are_the_planes_of_the_image(depth):
    """Sums that know no neighbor: each plane leaves once, after the windows that touch it."""
    sums = SlabSums(random_image((1, depth, 8, 6)), (8, 8, 8), 16, by_class=True)
    starts = sorted({*range(0, max(depth, 8) - 8, 5), max(depth, 8) - 8})
    total, slabs, done = np.zeros(max(depth, 8)), [], 0
    for start in starts:
        window = np.zeros((1, 4, 8, 8, 8), np.float32)
        # The planes' numbers are the odds of class 1.
        window[0, 0], window[0, 1] = 1, np.arange(start, start + 8).reshape(8, 1, 1)
        for slab in sums.add(jnp.asarray(window), 0, (start, 0, 0)):
            slabs.append(slab.read())
            done += slabs[-1].shape[1]
            assert done <= start
        total[start : start + 8] += 1
    assert (total > 0).all()
    slabs += [slab.read() for slab in sums.finish()]
    found = np.concatenate(slabs, 1)
    assert found.shape == (4, depth, 8, 6)
    assert max(slab.shape[1] for slab in slabs) <= SLAB_PLANES
    first = (max(depth, 8) - depth) // 2
    planes = np.arange(first, first + depth)
    np.testing.assert_allclose(found[1, :, 0, 0], planes / (1 + planes), atol=1e-6)


def test_float16_and_float32_are_the_same_program(batches):
    """The images of a model have one type; a stream of several is computed in the widest."""
    image = random_image((8, 8, 8)).astype(np.float16)
    found = collect({"half": image, "single": image.astype(np.float32)})
    assert len(batches) == 1
    np.testing.assert_array_equal(found["half"], found["single"])
