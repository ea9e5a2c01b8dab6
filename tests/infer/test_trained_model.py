import dataclasses

import jax
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.infer.trained_model import require_one_image, stack_models


def test_stacked_parameters_have_a_members_axis(small_models):
    first, params, *_ = stack_models(small_models)
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
        ({"network": model.network.clone(dtype=jax.numpy.bfloat16)}, "network"),
    ):
        with pytest.raises(InputError, match=f"model 2 has another {name} than model 1"):
            stack_models([model, dataclasses.replace(model, **change)])
    with pytest.raises(InputError, match="no model given"):
        stack_models([])
    with pytest.raises(TypeError, match="not str"):
        stack_models([model, "runs/phantom"])


def test_parameters_that_are_not_finite(small_models):
    """They would find nothing; under jit no value is known, and none is asked for."""
    model = small_models[1]
    params = {**model.params, "head_0": dict(model.params["head_0"])}
    params["head_0"]["bias"] = params["head_0"]["bias"].at[1].set(np.nan)
    broken = dataclasses.replace(model, params=params)
    with pytest.raises(InputError, match="model 2: its parameter head_0/bias holds NaN"):
        stack_models([small_models[0], broken])
    stacked = jax.jit(lambda model: stack_models(model).params)(broken)
    assert np.isnan(stacked["head_0"]["bias"]).sum() == 1


def test_folds_of_other_machines_are_an_ensemble(small_models):
    """What may change when a run is resumed changes no number but in its last digits."""
    model = small_models[0]
    network = model.network.clone(implementation="portable", remat=True)
    scheme = dataclasses.replace(model.scheme, colors=model.scheme.colors[::-1])
    other = dataclasses.replace(model, network=network, scheme=scheme)
    assert other.network != model.network
    assert stack_models([model, other]).model is model


def test_equal_images_make_an_ensemble(small_models):
    """Where the intensities come from, and what foreground is stored, changes no image."""
    model = small_models[0]
    numbers = {"intensities": (-50.0, 200.0, 100.0, 50.0)}
    first, other = (
        dataclasses.replace(model, preprocess=model.preprocess.model_copy(update=numbers | change))
        for change in ({"normalize": "foreground"}, {"normalize": "fixed", "foreground_voxels": 7})
    )
    ensemble = stack_models([first, other])
    assert ensemble.model is first
    assert (ensemble.images, ensemble.image_of) == ((first.preprocess,), (0, 0))
    require_one_image(ensemble)


def test_other_intensities_are_another_image(small_models):
    """Members whose numbers are equal share one; another spacing is refused still."""
    model = small_models[0]

    def changed(**numbers):
        preprocess = model.preprocess.model_copy(update=numbers)
        return dataclasses.replace(model, preprocess=preprocess)

    first = changed(normalize="foreground", intensities=(-50.0, 200.0, 100.0, 50.0))
    second = changed(normalize="foreground", intensities=(-50.0, 200.0, 99.0, 50.0))
    case = changed(lower_percentile=2.0)
    ensemble = stack_models([first, second, model, first, case])
    assert ensemble.image_of == (0, 1, 2, 0, 3)
    assert ensemble.images == tuple(m.preprocess for m in (first, second, model, case))
    with pytest.raises(InputError, match="the models normalize by different intensities") as error:
        require_one_image(ensemble)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"preprocess\.spacing_mm"):
        stack_models([first, changed(spacing_mm=3.0)])
