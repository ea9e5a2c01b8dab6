"""The forms of the convolution: which layers are measured, and what the table concludes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import forms
from benchmarks.forms_process import FORMS, build_layer, measure_forms
from kitsjax.model.unet import build_network
from kitsjax.settings import AugmentSettings, NetworkSettings, SamplingSettings, Settings

TINY = Settings(
    sampling=SamplingSettings(patch_shape=(16, 16, 16), batch_size=8),
    network=NetworkSettings(features=2, deep_supervision=2, convolution="direct"),
    augment=AugmentSettings(rotate=0.0, scale=0.0),
)


@pytest.mark.parametrize("patch", [(16, 16, 16), (64, 32, 32)])
def test_all_layers_of_the_network_are_listed(patch):
    """Their kernels are those of the network, in number and in size."""
    sampling = TINY.sampling.model_copy(update={"patch_shape": patch})
    settings = TINY.model_copy(update={"sampling": sampling})
    image = jax.ShapeDtypeStruct((1, *patch, 1), np.float32)
    network = build_network(settings.network, patch)
    params = jax.eval_shape(network.lazy_init, jax.random.key(0), image)
    kernels = sorted(leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 5)
    listed = []
    for layer in forms.list_layers(settings, 1).elements():
        if layer.kind == "decoder":
            listed.append((2, 2, 2, layer.inputs, layer.outputs))
            listed.append((3, 3, 3, 2 * layer.outputs, layer.outputs))
        else:
            listed.append((3, 3, 3, layer.inputs, layer.outputs))
    assert sorted(listed) == kernels


@pytest.mark.parametrize(
    "layer",
    [
        forms.Layer("convolution", (1, 4, 4, 4), 2, 3),
        forms.Layer("convolution", (1, 4, 4, 4), 2, 3, 2),
        forms.Layer("decoder", (1, 4, 4, 4), 3, 2),
    ],
)
def test_all_forms_compute_the_same(layer):
    first, *others = (build_layer(layer, form, jnp.float32)() for form in FORMS)
    for other in others:
        for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_every_form_of_layers_and_step_is_timed():
    found = measure_forms(TINY, rounds=1)
    assert {"direct", "packed", "merged", "planar", "stacked"} == set(FORMS) == set(found["step"])
    assert [each["layer"] for each in found["layers"]] == [
        str(layer) for layer in forms.list_layers(TINY, 1)
    ]
    for each in found["layers"]:
        assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in each["seconds"].values())


def test_the_table_says_what_a_mixture_would_gain():
    """a is best alone, 10 of 30 ms; b is 1 ms faster at the second layer, which stands twice."""
    found = {
        "layers": [
            {"layer": "one", "count": 1, "seconds": {"a": [0.004], "b": [0.009]}},
            {"layer": "two", "count": 2, "seconds": {"a": [0.003, 0.005, 0.003], "b": [0.002]}},
        ],
        "step": {"a": [0.030, 0.031, 0.029], "b": [0.035]},
    }
    table = forms.to_table(found, ["a note"])
    assert table.rows[0] == ("one", "1", "4 *", "9")
    assert table.rows[1] == ("two", "2", "3", "2 *")
    assert table.rows[2] == ("all layers", "", "10 *", "13")
    assert table.rows[3] == ("whole step", "", "30 *", "35")
    assert "fastest form of the whole step is a" in table.notes[0]
    assert "would save 2 ms of it, 7 %" in table.notes[0]
