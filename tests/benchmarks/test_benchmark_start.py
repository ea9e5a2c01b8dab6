from pathlib import Path

import pytest

from benchmarks import start
from benchmarks.definition import Job
from kitsjax.config import load_settings

CONFIGS = Path(__file__).parents[2] / "configs"

AUGMENTATIONS = ("mirror", "rotate", "scale", "brightness", "contrast", "gamma")

REACHED = {"imported": 1.0, "initialized": 2.0, "first step": 3.0}


@pytest.fixture
def starts(monkeypatch, tmp_path):
    """For each start, whether it found compiled code; every start leaves some."""
    found = []

    def pretend(contender, folder):
        compiled = folder / contender / "cache" / "xla"
        found.append(compiled.exists())
        compiled.mkdir(parents=True, exist_ok=True)
        (folder / contender / "cache" / "fonts").touch()
        return REACHED

    monkeypatch.setattr(start, "start", pretend)
    return found


def test_only_cached_starts_find_compiled_code(starts, tmp_path):
    for variant in (start.COLD, start.COLD, start.CACHED, start.CACHED):
        measured = start._run("kitsjax", Job(tmp_path, "small", variant, 1))
        assert measured.seconds == [3.0]
        assert (tmp_path / "kitsjax/cache/fonts").exists()
    # The first is there to bring packages into memory.
    assert starts == [False, False, False, True, True]


def test_a_cached_start_fills_the_cache_first(starts, tmp_path):
    start._run("kitsjax", Job(tmp_path, "small", start.CACHED, 1))
    assert starts == [False, True]


def test_settings_are_those_of_the_presets(tmp_path):
    for size, preset in (("small", "phantom"), ("full", "kits21")):
        start._prepare(Job(tmp_path, size, "", 2))
        ours, known = map(load_settings, (tmp_path / "settings.toml", CONFIGS / f"{preset}.toml"))
        assert (ours.network, ours.loss) == (known.network, known.loss)
        assert ours.sampling.patch_shape == known.sampling.patch_shape
        assert ours.sampling.batch_size == known.sampling.batch_size


@pytest.mark.slow
def test_a_start_reaches_its_first_step(tmp_path, monkeypatch):
    tiny = (
        "sampling.patch_shape=[8, 8, 8]", "sampling.batch_size=1", "network.features=2",
        "network.deep_supervision=1", "network.convolution='direct'",
        *(f"augment.{name}=0" for name in AUGMENTATIONS),
    )  # fmt: skip
    monkeypatch.setitem(start._OVERRIDES, "small", tiny)
    # One device instead of the tests' eight, and code that is compiled fast.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    start._prepare(Job(tmp_path, "small", "", 1))
    reached = start.start("kitsjax", tmp_path)
    assert list(reached) == list(REACHED)
    assert 0 < reached["imported"] < reached["initialized"] < reached["first step"]
    assert any((tmp_path / "kitsjax/cache/xla").iterdir())
