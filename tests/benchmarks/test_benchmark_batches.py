"""Both sides of the batches augment alike, and what is timed is delivery without a backlog."""

import numpy as np
import pytest

from benchmarks import batches
from benchmarks.part import Job
from kitsjax.settings import AugmentSettings
from kitsjax.train.augment import INTENSITY, oversized_shape

NAMES = ("mirror", "rotate", "scale", *INTENSITY)
PEER = "a peer of the benchmark, pip install '.[bench]'"


def test_paper_variant_is_kitsjaxs_default_of_six_augmentations():
    assert batches.AUGMENT["paper"] == AugmentSettings()
    assert {getattr(batches.AUGMENT["paper"], name) for name in NAMES} == {0.4}


@pytest.mark.parametrize("variant", batches.AUGMENT)
def test_source_is_as_large_as_nnunets(variant):
    assert oversized_shape(batches.PATCH, batches.AUGMENT[variant]) == (205, 205, 205)


@pytest.mark.parametrize(("threads", "devices"), [(1, 1), (2, 2), (3, 2), (16, 4)])
def test_devices_divide_the_batch_and_threads_are_the_jobs(tmp_path, threads, devices):
    settings = batches.batch_settings(Job(tmp_path, "small", "paper", threads))
    assert settings.run.cpu_devices == devices
    assert settings.sampling.threads == threads


def test_one_batch_is_under_way_while_the_next_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(batches._PLANS, "small", batches._Plan(batches=3, repeats=1))
    events: list[str] = []

    def deliver():
        events.append("ask")
        return len(events)

    job = Job(tmp_path, "small", "paper", 1)
    found = batches._measure(job, deliver, lambda _: events.append("wait"), {})
    assert events == ["ask", "ask", "wait", "ask", "wait", "wait"] * 2
    assert len(found.seconds) == 1
    assert found.units == 3 * batches.BATCH


def nnunets_rates():
    """Probability of each augmentation in nnU-Net's own recipe, by kitsjax's names."""
    pytest.importorskip("nnunetv2", reason=PEER)
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    recipe = nnUNetTrainer.get_training_transforms((8, 8, 8), (-0.1, 0.1), None, (0, 1, 2), False)
    spatial, *others = recipe.transforms
    rates = {"rotate": spatial.p_rotation, "scale": spatial.p_scaling}
    names = {
        "MultiplicativeBrightnessTransform": "brightness",
        "ContrastTransform": "contrast",
        "GammaTransform": "gamma",
    }
    for transform in others:
        inner = getattr(transform, "transform", transform)
        inverted = getattr(inner, "p_invert_image", 0)
        name = names.get(type(inner).__name__)
        if name and not inverted:
            rates[name] = transform.apply_probability
    return rates


def test_nnunet_variant_has_nnunets_rates():
    for name, rate in nnunets_rates().items():
        assert getattr(batches.AUGMENT["nnunet"], name) == rate
    # Its MirrorTransform always draws, and flips each axis of half the patches.
    assert batches.AUGMENT["nnunet"].mirror == 1


def test_peers_paper_augmentation_that_never_fires_is_kitsjaxs_central_patch(monkeypatch):
    torch = pytest.importorskip("torch", reason=PEER)
    pytest.importorskip("batchgeneratorsv2", reason=PEER)
    never = AugmentSettings(**dict.fromkeys(NAMES, 0.0))
    monkeypatch.setitem(batches.AUGMENT, "paper", never)
    image = np.random.default_rng(0).random((1, 13, 13, 13), np.float32)
    label = np.random.default_rng(1).integers(-1, 4, image.shape, np.int16)
    found = batches.paper_transforms((8, 8, 8))(
        image=torch.from_numpy(image.copy()), segmentation=torch.from_numpy(label.copy())
    )
    middle = (slice(None), *[slice(2, 10)] * 3)
    np.testing.assert_array_equal(found["image"].numpy(), image[middle])
    # Outside the volume is background.
    np.testing.assert_array_equal(found["segmentation"].numpy(), np.maximum(label, 0)[middle])


def test_peers_paper_augmentation_fires_at_the_papers_rates():
    torch = pytest.importorskip("torch", reason=PEER)
    pytest.importorskip("batchgeneratorsv2", reason=PEER)
    transforms = batches.paper_transforms((8, 8, 8))
    image = torch.rand(1, 13, 13, 13)
    label = torch.zeros(1, 13, 13, 13, dtype=torch.int16)
    middle = image[:, 2:10, 2:10, 2:10]
    unchanged = 0
    for _ in range(400):
        out = transforms(image=image.clone(), segmentation=label.clone())["image"]
        assert out.shape == middle.shape
        unchanged += bool(torch.equal(out, middle))
    # None of six fires in 0.6^6 of the patches; mirroring that flips no axis, 1 of 8, is none.
    expected = 400 * 0.6**5 * (0.6 + 0.4 / 8)
    assert abs(unchanged - expected) < 5 * expected**0.5
