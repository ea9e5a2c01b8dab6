"""The trained model that a run starts from, `train.init_from`, and whether it fits the run."""

from typing import NoReturn

from kitsjax.config import choose_scheme, to_inline_toml
from kitsjax.errors import InputError
from kitsjax.infer.bundle import Bundle, read_bundle
from kitsjax.infer.parameter_shapes import Parameters, network_parameters
from kitsjax.settings import Settings

_SHAPING = (
    "network.features", "network.max_features", "network.smallest", "network.deep_supervision",
    "loss.regions", "sampling.patch_shape",
)  # fmt: skip
"""Settings that the shapes of the parameters depend on, beside the labels. The patch's shape may
differ where the number of stages does not."""


def read_initial(settings: Settings) -> Bundle:
    """Read the model `train.init_from`, and refuse one of another network than the run's.

    The labels are left out, since they may be known only when the data set has been read: see
    `check_labels`.

    Raises:
        InputError: the model cannot be read, or its network is another one.
    """
    path = settings.train.init_from
    try:
        bundle = read_bundle(path)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise InputError(f"train.init_from = {path}: {reason}") from None
    # Outputs by region have other meanings, and could have the same shapes.
    if bundle.settings.loss.regions != settings.loss.regions:
        _refuse_network(settings, bundle)
    theirs, ours = (_list_parameters(each, bundle) for each in (bundle.settings, settings))
    if theirs != ours:
        _refuse_network(settings, bundle)
    return bundle


def check_labels(settings: Settings, bundle: Bundle) -> None:
    """Refuse a model whose outputs mean something else than this run's.

    Args:
        settings: all settings of the run, with the labels of its data set.
        bundle: the model, of the run's network.

    Raises:
        InputError: it is of other labels, or its regions are other unions of them.
    """
    where = f"train.init_from = {settings.train.init_from}"
    theirs, ours = (choose_scheme(s) for s in (bundle.settings, settings))
    if theirs.names != ours.names:
        raise InputError(
            f"{where}: a model of the labels {', '.join(theirs.names[1:])}, and this run's are "
            f"{', '.join(ours.names[1:])}; give a model of the same labels"
        )
    if settings.loss.regions and theirs.nested_labels != ours.nested_labels:
        raise InputError(
            f"{where}: its regions are other unions of the labels than this run's "
            "(labels.evaluation); give a model of the same regions, or train without loss.regions"
        )


def _list_parameters(settings: Settings, bundle: Bundle) -> Parameters:
    """Return the parameters of these settings' network for the model's labels."""
    return network_parameters(
        settings.network, settings.sampling.patch_shape,
        scheme=choose_scheme(bundle.settings), regions=bundle.settings.loss.regions,
    )  # fmt: skip


def _refuse_network(settings: Settings, bundle: Bundle) -> NoReturn:
    """Name the first setting that makes another network, and what to set it to."""
    where = f"train.init_from = {settings.train.init_from}"
    for name in _SHAPING:
        old, new = (_read(s, name) for s in (bundle.settings, settings))
        if old != new:
            raise InputError(
                f"{where}: its {name} is {old}, and this run's is {new}; train with --set "
                f"{name}={old}, or give another model"
            )
    raise InputError(f"{where}: its parameters do not fit this run's network; give another model")


def _read(settings: Settings, name: str) -> str:
    """Return the value of a setting as `--set` takes it."""
    section, _, field = name.partition(".")
    # Without spaces, at which a shell would split it.
    return to_inline_toml(getattr(getattr(settings, section), field)).replace(" ", "")
