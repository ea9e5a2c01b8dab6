import errno
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import save_file

from kitsjax.config import load_settings, to_toml
from kitsjax.errors import InputError
from kitsjax.infer.bundle import BUNDLE_NAME, load_model, make_model, read_bundle, save_bundle

SETTINGS = load_settings(
    None, ["network.features=2", "network.deep_supervision=2", "sampling.patch_shape=[16, 16, 16]"]
)
PROVENANCE = {"epoch": 12, "dice": 0.875, "cases": ["case_00000"]}


@pytest.fixture(scope="module")
def params():
    network = make_model({}, SETTINGS).network
    window = np.zeros((1, *SETTINGS.sampling.patch_shape, 1), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), window)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape, s.dtype), shapes)


@pytest.fixture
def bundle(params, tmp_path):
    path = tmp_path / BUNDLE_NAME
    save_bundle(path, params, SETTINGS, PROVENANCE)
    return path


def rewrite(path, **changed):
    """Write the bundle's tensors again with some metadata changed."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() | changed
    save_file(tensors, path, metadata)


def test_round_trip_is_exact(bundle, params):
    read = read_bundle(bundle)
    assert read.settings == SETTINGS
    assert read.provenance == PROVENANCE
    found, expected = flatten_dict(read.params), flatten_dict(params)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        assert found[name].shape == leaf.shape
        assert found[name].dtype == leaf.dtype
        assert np.asarray(found[name]).tobytes() == np.asarray(leaf).tobytes()
    assert [path.name for path in bundle.parent.iterdir()] == [BUNDLE_NAME]


def test_the_loaded_network_computes_and_is_hashable(bundle):
    model = load_model(bundle)
    assert hash(model.network) == hash(make_model({}, SETTINGS).network)
    variables = {"params": model.params}
    logits = jax.eval_shape(model.network.apply, variables, np.zeros((1, 16, 16, 16, 1)))
    assert logits[0].shape == (1, 16, 16, 16, 4)
    assert model.patch_shape == (16, 16, 16)
    assert (model.preprocess, model.predict) == (SETTINGS.preprocess, SETTINGS.predict)


def test_a_model_is_a_pytree_of_its_parameters(bundle, params):
    model = load_model(bundle)
    assert jax.tree.structure(model.params) == jax.tree.structure(params)
    assert len(jax.tree.leaves(model)) == len(jax.tree.leaves(params))
    doubled = jax.jit(lambda model: jax.tree.map(lambda leaf: 2 * leaf, model))(model)
    assert doubled.network == model.network
    np.testing.assert_array_equal(
        jax.tree.leaves(doubled)[0], 2 * np.asarray(jax.tree.leaves(model)[0])
    )


def test_a_run_folder_is_read_and_one_without_a_model_refused(bundle, tmp_path):
    assert read_bundle(bundle.parent).settings == SETTINGS
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"empty: holds no {BUNDLE_NAME}"):
        load_model(tmp_path / "empty")
    with pytest.raises(InputError, match="absent"):
        load_model(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("place", [0.2, 0.5, 0.999])
def test_a_flipped_byte_among_the_tensors_is_found(bundle, place):
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
    rewrite(bundle, kitsjax_format="2")
    with pytest.raises(InputError, match=r"newer kitsjax.*upgrade kitsjax"):
        load_model(bundle)


def test_settings_of_another_network_are_found(params, tmp_path):
    other = load_settings(
        None,
        ["network.features=4", "network.deep_supervision=2", "sampling.patch_shape=[16, 16, 16]"],
    )
    save_bundle(tmp_path / "m.safetensors", params, other, {})
    with pytest.raises(InputError, match=r"another network: decoder_0/first/bias .*\[2\].*\[4\]"):
        load_model(tmp_path / "m.safetensors")


def test_missing_and_surplus_parameters_are_found(params, tmp_path):
    without = {name: leaf for name, leaf in params.items() if name != "head_0"}
    save_bundle(tmp_path / "m.safetensors", without, SETTINGS, {})
    with pytest.raises(InputError, match="another network: head_0/bias is absent"):
        load_model(tmp_path / "m.safetensors")
    save_bundle(tmp_path / "m.safetensors", {**params, "a": params["head_0"]}, SETTINGS, {})
    with pytest.raises(InputError, match="another network: a/bias is float32"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("content", [b"", b"just some text in a file", b"\xff" * 64])
def test_files_that_are_no_safetensors_are_refused(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_model(path)


def test_a_truncated_bundle_is_refused(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_model(bundle)


def test_safetensors_of_something_else_are_refused(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "m.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="not a kitsjax model"):
        load_model(tmp_path / "m.safetensors")


def test_settings_that_this_version_does_not_know_are_refused(params, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "kitsjax.infer.bundle.to_toml", lambda s: to_toml(s) + "\n[future]\nfield = 1\n"
    )
    save_bundle(tmp_path / "m.safetensors", params, SETTINGS, {})
    with pytest.raises(InputError, match=r"m\.safetensors: .*another version .*setting 'future'"):
        load_model(tmp_path / "m.safetensors")


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(params, bundle, monkeypatch):
    def fail(path, content):
        path.open("wb").write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        save_bundle(bundle, params, SETTINGS, {})
    assert [path.name for path in bundle.parent.iterdir()] == [BUNDLE_NAME]
    assert read_bundle(bundle).provenance == PROVENANCE
