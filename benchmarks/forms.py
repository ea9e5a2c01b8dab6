"""Each distinct layer of a network in every form of its convolution, and the whole step in each.

A form is an implementation of `kitsjax.model.convolution` with the options that its program is
compiled with. This says which form is fastest on the device at hand, and what choosing one for each
layer would gain.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.definition import AS_COMMANDS, Size
from benchmarks.hardware import describe_machine, describe_packages, measured_notes
from benchmarks.run_process import ROOT, run_module
from kitsjax.config import load_settings, to_toml
from kitsjax.files import write_text
from kitsjax.report.table_format import Column, Table, to_markdown, to_text
from kitsjax.settings import Settings

WORK = (
    "each distinct layer of a network, forward and both gradients, and the whole train step, in "
    "every form of its convolution"
)

FILES = ("forms.md", "forms.json")

CONFIGS: dict[Size, str] = {"small": "phantom.toml", "full": "kits21.toml"}
"""The network that is measured where the user names none."""


class Layer(NamedTuple):
    """A layer with a kernel, or two, for one device's share of a batch.

    Attributes:
        kind: "convolution" (3x3x3), or "decoder": upsampling (2x2x2, transposed), concatenation
            with as many channels of a skip connection, and convolution, which a form may merge.
        shape: (b, z, y, x) of its input; of a decoder's, the volume that is upsampled.
        inputs, outputs: channels; of a decoder's, of the upsampled volume and of the result.
        stride: of the convolution.
    """

    kind: str
    shape: tuple[int, int, int, int]
    inputs: int
    outputs: int
    stride: int = 1

    def __str__(self) -> str:
        """Describe it in a word or two, as the table does."""
        edges = " x ".join(map(str, self.shape[1:]))
        strided = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.kind}, {edges}, {self.inputs} to {self.outputs}{strided}"


def list_layers(settings: Settings, batch: int) -> Counter[Layer]:
    """List the distinct layers of the settings' network, each with its number.

    Args:
        settings: all settings.
        batch: patches on a device.
    """
    from kitsjax.model.unet import stage_features

    network, patch = settings.network, settings.sampling.patch_shape
    features = stage_features(patch, network.features, network.max_features, network.smallest)
    shapes = [(batch, *(edge // 2**level for edge in patch)) for level in range(len(features))]
    layers: Counter[Layer] = Counter()
    for level, (shape, outputs) in enumerate(zip(shapes, features, strict=True)):
        if level == 0:
            layers[Layer("convolution", shape, 1, outputs)] += 1
        else:
            finer, inputs = shapes[level - 1], features[level - 1]
            layers[Layer("convolution", finer, inputs, outputs, 2)] += 1
            layers[Layer("decoder", shape, outputs, inputs)] += 1
        layers[Layer("convolution", shape, outputs, outputs)] += 1
        if level < len(features) - 1:
            layers[Layer("convolution", shape, outputs, outputs)] += 1
    return layers


def run_forms(
    output: Path, size: Size, config: str | Path | None, overrides: Sequence[str], rounds: int
) -> str:
    """Measure all forms in a process of its own, and write `FILES` into `output`.

    Args:
        output: folder of the results.
        size: says which network is measured without `config`.
        config: settings file whose network, patch and batch are measured.
        overrides: changes of its settings, such as "network.features=16".
        rounds: number of times that the forms take turns.

    Returns:
        The table as text.

    Raises:
        InputError: The settings cannot be used, or the measurement failed.
    """
    settings = load_settings(config or ROOT / "configs" / CONFIGS[size], overrides)
    (output / "logs").mkdir(parents=True, exist_ok=True)
    found = run_module(
        "forms", "benchmarks.forms_process", [to_toml(settings), str(rounds)],
        AS_COMMANDS, output / "logs" / "forms.log",
    )  # fmt: skip
    notes = measured_notes(describe_machine(), describe_packages())
    table = to_table(found, notes)
    write_text(output / "forms.md", to_markdown(table))
    write_text(output / "forms.json", json.dumps(found, indent=1) + "\n")
    return to_text(table)


def to_table(found: dict[str, Any], notes: Sequence[str]) -> Table:
    """Make the table of what `benchmarks.forms_process` measured.

    Args:
        found: "layers", a list of {"layer", "count", "seconds": {form: [seconds]}}; "step", the
            seconds of the whole step by form.
        notes: more notes.
    """
    forms = list(found["step"])
    columns = (Column("layer"), Column("number"), *(Column(f"{name}, ms") for name in forms))
    layers = [
        (each["layer"], each["count"], {name: median(each["seconds"][name]) for name in forms})
        for each in found["layers"]
    ]
    sums = {name: sum(count * seconds[name] for _, count, seconds in layers) for name in forms}
    steps = {name: median(found["step"][name]) for name in forms}
    rows = [
        *((layer, str(count), *_milliseconds(seconds)) for layer, count, seconds in layers),
        ("all layers", "", *_milliseconds(sums)),
        ("whole step", "", *_milliseconds(steps)),
    ]
    best = min(steps, key=lambda name: steps[name])
    mixed = sum(count * min(seconds.values()) for _, count, seconds in layers)
    gain = (sums[best] - mixed) / steps[best]
    verdict = (
        f"The fastest form of the whole step is {best}. The fastest form of each layer would save "
        f"{1000 * (sums[best] - mixed):.3g} ms of it, {100 * gain:.0f} %."
    )
    return Table("Forms of the convolution", columns, tuple(rows), (verdict, *notes))


def _milliseconds(seconds: dict[str, float]) -> list[str]:
    """Write times; the least one is marked."""
    least = min(seconds.values())
    return [f"{1000 * s:.3g}{' *' if s == least else ''}" for s in seconds.values()]
