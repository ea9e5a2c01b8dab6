import dataclasses

import jax
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.infer.trained_model import stack_models


def test_stacked_parameters_have_a_members_axis(small_models):
    first, params = stack_models(small_models)
    assert first is small_models[0]
    for stacked, *leaves in zip(*map(jax.tree.leaves, (params, *small_models)), strict=True):
        np.testing.assert_array_equal(stacked, np.stack(leaves))
    for stacked, leaf in zip(
        jax.tree.leaves(stack_models(first).params), jax.tree.leaves(first), strict=True
    ):
        np.testing.assert_array_equal(stacked, leaf[None])


def test_models_that_differ_make_no_ensemble(small_models):
    model = small_models[0]
    preprocess = model.preprocess.model_copy(update={"spacing_mm": 3.0})
    for change, name in (
        ({"preprocess": preprocess}, r"preprocessing \(preprocess.spacing_mm\)"),
        ({"patch_shape": (16, 16, 32)}, "patch shape"),
        ({"network": model.network.clone(implementation="portable")}, "network"),
    ):
        with pytest.raises(InputError, match=f"model 2 has another {name} than model 1"):
            stack_models([model, dataclasses.replace(model, **change)])
    with pytest.raises(InputError, match="no model given"):
        stack_models([])
    with pytest.raises(TypeError, match="not str"):
        stack_models([model, "runs/phantom"])


def test_equal_images_make_an_ensemble(small_models):
    """Where the intensities come from, and what foreground is stored, changes no image."""
    model = small_models[0]
    numbers = {"intensities": (-50.0, 200.0, 100.0, 50.0)}
    first, other = (
        dataclasses.replace(model, preprocess=model.preprocess.model_copy(update=numbers | change))
        for change in ({"normalize": "foreground"}, {"normalize": "fixed", "foreground_voxels": 7})
    )
    assert stack_models([first, other]).model is first
    elsewhere = other.preprocess.model_copy(update={"intensities": (-50.0, 200.0, 99.0, 50.0)})
    with pytest.raises(InputError, match=r"preprocess\.intensities"):
        stack_models([first, dataclasses.replace(other, preprocess=elsewhere)])
    case = model.preprocess.model_copy(update={"lower_percentile": 2.0})
    with pytest.raises(InputError, match=r"preprocess\.lower_percentile"):
        stack_models([model, dataclasses.replace(model, preprocess=case)])
