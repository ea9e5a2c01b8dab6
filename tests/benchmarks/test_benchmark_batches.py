import numpy as np
import pytest

from benchmarks import batches
from benchmarks.definition import Job
from kitsjax.settings import AugmentSettings
from kitsjax.train.augment import INTENSITY, oversized_shape

NAMES = ("mirror", "rotate", "scale", *INTENSITY)
BASELINE = "a baseline of the benchmarks, pip install '.[bench]'"

# The warnings of baselines are not ours.
THEIR_WARNINGS = pytest.mark.filterwarnings("ignore")


def test_paper_variant_is_the_default():
    assert batches.AUGMENT["paper"] == AugmentSettings()
    assert {getattr(batches.AUGMENT["paper"], name) for name in NAMES} == {0.4}


@pytest.mark.parametrize("variant", batches.AUGMENT)
def test_oversized_patch_is_nnunets(variant):
    assert oversized_shape(batches.PATCH, batches.AUGMENT[variant]) == (205, 205, 205)


@pytest.mark.parametrize(("threads", "devices"), [(1, 1), (2, 2), (3, 2), (16, 4)])
def test_devices_divide_the_batch(tmp_path, threads, devices):
    settings = batches.batch_settings(Job(tmp_path, "small", "paper", threads))
    assert settings.run.cpu_devices == devices
    assert settings.sampling.threads == threads


def test_the_next_batch_is_asked_for_first(tmp_path, monkeypatch):
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
    pytest.importorskip("nnunetv2", reason=BASELINE)
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


@THEIR_WARNINGS
def test_nnunet_variant_has_nnunets_rates():
    for name, rate in nnunets_rates().items():
        assert getattr(batches.AUGMENT["nnunet"], name) == rate
    # Its MirrorTransform is always applied, and flips each axis of half the patches.
    assert batches.AUGMENT["nnunet"].mirror == 1


@THEIR_WARNINGS
def test_paper_transforms_cut_the_central_patch(monkeypatch):
    """Without any augmentation they do what kitsjax does."""
    torch = pytest.importorskip("torch", reason=BASELINE)
    pytest.importorskip("batchgeneratorsv2", reason=BASELINE)
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


@THEIR_WARNINGS
def test_paper_transforms_have_the_papers_rates():
    torch = pytest.importorskip("torch", reason=BASELINE)
    pytest.importorskip("batchgeneratorsv2", reason=BASELINE)
    transforms = batches.paper_transforms((8, 8, 8))
    image = torch.rand(1, 13, 13, 13)
    label = torch.zeros(1, 13, 13, 13, dtype=torch.int16)
    middle = image[:, 2:10, 2:10, 2:10]
    unchanged = 0
    for _ in range(400):
        out = transforms(image=image.clone(), segmentation=label.clone())["image"]
        assert out.shape == middle.shape
        unchanged += bool(torch.equal(out, middle))
    # None of six is applied to 0.6^6 of the patches. Mirroring flips no axis in 1 of 8 cases.
    expected = 400 * 0.6**5 * (0.6 + 0.4 / 8)
    assert abs(unchanged - expected) < 5 * expected**0.5
