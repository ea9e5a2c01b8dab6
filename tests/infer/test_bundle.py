import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import save_file

from kitsjax.config import to_toml
from kitsjax.errors import InputError
from kitsjax.infer import bundle as bundle_module
from kitsjax.infer.bundle import (
    BUNDLE_NAME,
    FORMAT,
    load_model,
    make_model,
    read_bundle,
    save_bundle,
)
from kitsjax.labels import KITS

PROVENANCE = {"epoch": 12, "dice": 0.875, "cases": ["case_00000"]}


@pytest.fixture(scope="module")
def params(small_models):
    return jax.device_get(small_models[0].params)


@pytest.fixture
def bundle(params, small_settings, tmp_path):
    """The path of a model file."""
    path = tmp_path / BUNDLE_NAME
    save_bundle(path, params, small_settings, PROVENANCE)
    return path


def rewrite(path, **changed):
    """Write the tensors of a model file again with some metadata changed."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() | changed
    save_file(tensors, path, metadata)


def test_round_trip_is_exact(bundle, params, small_settings):
    read = read_bundle(bundle)
    assert read.settings == small_settings
    assert read.provenance == PROVENANCE
    found, expected = flatten_dict(read.params), flatten_dict(params)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        assert found[name].shape == leaf.shape
        assert found[name].dtype == leaf.dtype
        assert np.asarray(found[name]).tobytes() == np.asarray(leaf).tobytes()
    assert [path.name for path in bundle.parent.iterdir()] == [BUNDLE_NAME]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_formats_keep_their_meaning(
    bundle, params, small_settings, tmp_path, monkeypatch, version
):
    """All three normalized each case by itself, 1 and 2 clipped no HU, and 1 had other names."""

    def old_toml(settings):
        text = to_toml(settings)
        if version < 3:
            line, _, text = text.partition("hu_range = [")
            text = line + text.partition("]")[2]
        for line in ('normalize = "case"\n', "intensities = []\n"):
            assert line in text
            text = text.replace(line, "")
        renamed = (
            ("deep_supervision", "heads"), ("accumulation_steps", "accumulate"),
            ("step_size", "step"),
        )  # fmt: skip
        for new, old in renamed if version == 1 else ():
            assert f"\n{new} = " in text
            text = text.replace(f"\n{new} = ", f"\n{old} = ")
        return text

    monkeypatch.setattr("kitsjax.infer.bundle.to_toml", old_toml)
    monkeypatch.setattr("kitsjax.infer.bundle.FORMAT", version)
    save_bundle(tmp_path / "old.safetensors", params, small_settings, PROVENANCE)
    unclipped = {} if version == 3 else {"hu_range": ()}
    expected = small_settings.preprocess.model_copy(update=unclipped)
    found = read_bundle(tmp_path / "old.safetensors").settings
    assert found == small_settings.model_copy(update={"preprocess": expected})
    assert small_settings.preprocess.hu_range == (-1024, 3071)


def test_a_loaded_network_computes(bundle, small_settings):
    model = load_model(bundle)
    assert hash(model.network) == hash(make_model({}, small_settings).network)
    window = np.zeros((1, 16, 16, 16, 1), np.float32)
    logits = jax.eval_shape(model.network.apply, {"params": model.params}, window)
    assert logits[0].shape == (1, 16, 16, 16, 4)
    assert model.patch_shape == (16, 16, 16)
    assert (model.preprocess, model.predict) == (small_settings.preprocess, small_settings.predict)


def test_a_model_is_a_pytree_of_its_parameters(bundle, params):
    model = load_model(bundle)
    assert jax.tree.structure(model.params) == jax.tree.structure(params)
    assert len(jax.tree.leaves(model)) == len(jax.tree.leaves(params))
    doubled = jax.jit(lambda model: jax.tree.map(lambda leaf: 2 * leaf, model))(model)
    assert doubled.network == model.network
    np.testing.assert_array_equal(
        jax.tree.leaves(doubled)[0], 2 * np.asarray(jax.tree.leaves(model)[0])
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(params, small_settings, tmp_path, monkeypatch, value):
    """Its masks would be empty, and look whole. It is neither written nor read."""
    path = tmp_path / BUNDLE_NAME
    broken = jax.tree.map(np.copy, params)
    broken["head_0"]["bias"][1] = value
    expected = f"{path}: head_0/bias holds NaN or infinite values; train the model again"
    with pytest.raises(InputError) as refused:
        save_bundle(path, broken, small_settings, {})
    assert (str(refused.value), path.exists()) == (expected, False)
    with monkeypatch.context() as patch:
        patch.setattr(bundle_module, "find_not_finite", lambda tensors: "")
        save_bundle(path, broken, small_settings, {})
    with pytest.raises(InputError) as refused:
        load_model(path)
    assert str(refused.value) == expected


def test_a_run_folder_needs_a_model_file(bundle, small_settings, tmp_path):
    assert read_bundle(bundle.parent).settings == small_settings
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"empty: holds no {BUNDLE_NAME}"):
        load_model(tmp_path / "empty")
    with pytest.raises(InputError, match="absent"):
        load_model(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("place", [0.2, 0.5, 0.999])
def test_a_flipped_byte_of_the_tensors_is_found(bundle, place):
    content = bytearray(bundle.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[header + int(place * (len(content) - header))] ^= 1
    bundle.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_model(bundle)


def test_changed_metadata_is_found(bundle):
    rewrite(bundle, provenance=json.dumps({"epoch": 1000}))
    with pytest.raises(InputError, match="damaged"):
        load_model(bundle)


def test_a_newer_version_is_refused(bundle):
    rewrite(bundle, kitsjax_format=str(FORMAT + 1))
    with pytest.raises(InputError, match=r"newer kitsjax.*upgrade kitsjax"):
        load_model(bundle)


def test_labels_in_another_order_are_refused(params, small_settings, tmp_path, monkeypatch):
    """The checksum is right, as another version would write it; its outputs mean other classes."""
    path = tmp_path / BUNDLE_NAME
    other = replace(KITS, names=("background", "kidney", "cyst", "tumor"))
    with monkeypatch.context() as patch:
        patch.setattr(bundle_module, "choose_scheme", lambda settings: other)
        save_bundle(path, params, small_settings, PROVENANCE)
    with pytest.raises(InputError, match="its labels are background, kidney, cyst, tumor") as error:
        load_model(path)
    assert str(path) in str(error.value)


def test_settings_of_another_network_are_found(params, small_settings, tmp_path):
    network = small_settings.network.model_copy(update={"features": 4})
    other = small_settings.model_copy(update={"network": network})
    save_bundle(tmp_path / "m.safetensors", params, other, {})
    with pytest.raises(InputError, match=r"another network: decoder_0/first/bias .*\[2\].*\[4\]"):
        load_model(tmp_path / "m.safetensors")


def test_missing_and_surplus_parameters_are_found(params, small_settings, tmp_path):
    without = {name: leaf for name, leaf in params.items() if name != "head_0"}
    save_bundle(tmp_path / "m.safetensors", without, small_settings, {})
    with pytest.raises(InputError, match="another network: head_0/bias is absent"):
        load_model(tmp_path / "m.safetensors")
    surplus = {**params, "a": params["head_0"]}
    save_bundle(tmp_path / "m.safetensors", surplus, small_settings, {})
    with pytest.raises(InputError, match="another network: a/bias is float32"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("content", [b"", b"just some text in a file", b"\xff" * 64])
def test_files_of_another_format_are_refused(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_model(path)


def test_a_truncated_file_is_refused(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_model(bundle)


def test_safetensors_of_another_tool_are_refused(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "m.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="not a kitsjax model"):
        load_model(tmp_path / "m.safetensors")


def test_settings_of_another_version_are_refused(params, small_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "kitsjax.infer.bundle.to_toml", lambda s: to_toml(s) + "\n[future]\nfield = 1\n"
    )
    save_bundle(tmp_path / "m.safetensors", params, small_settings, {})
    with pytest.raises(InputError, match=r"m\.safetensors: .*another version .*setting 'future'"):
        load_model(tmp_path / "m.safetensors")


def test_a_failed_write_leaves_the_old_file(params, bundle, small_settings, monkeypatch):
    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        save_bundle(bundle, params, small_settings, {})
    assert [path.name for path in bundle.parent.iterdir()] == [BUNDLE_NAME]
    assert read_bundle(bundle).provenance == PROVENANCE


@pytest.mark.parametrize("keys", ["threefry2x32", "rbg"])
def test_a_model_is_read_before_jax_has_devices(keys):
    """A command reads `train.init_from` first, and JAX takes their number only before that."""
    code = (
        "import jax; from kitsjax.infer.bundle import read_bundle; read_bundle('synthetic'); "
        "jax.config.update('jax_num_cpu_devices', 3); print(jax.local_device_count('cpu'))"
    )
    environment = os.environ | {"XLA_FLAGS": "", "JAX_DEFAULT_PRNG_IMPL": keys}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
