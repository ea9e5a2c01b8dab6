"""Frozen, typed, validated settings: TOML files, `--set` overrides, and nothing else reads them.

Each section is handed to the part of the program that it belongs to; only `train/loop.py`,
`infer/bundle.py` and the commands see the whole `Settings`.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kitsjax.errors import InputError

Probability = Annotated[float, Field(ge=0, le=1)]
Shape = tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]]
Range = tuple[float, float]


class Section(BaseModel):
    """A frozen group of settings: unknown keys and coercions between types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        # TOML has arrays only; strict validation of a tuple wants a tuple.
        if isinstance(values, Mapping):
            return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return values


class DataSettings(Section):
    """Where cases come from and how they are divided."""

    root: str = Field("data/kits21", description="folder of the data set, KiTS21's own layout")
    cache: str = Field(
        "", description="folder of preprocessed cases; empty: 'preprocessed' beside root"
    )
    make_phantom: bool = Field(
        False, description="write the synthetic data set of [phantom] to root if root is absent"
    )
    held_out: int = Field(
        60, ge=0, description="cases held out at random (D1); 0 trains on every case"
    )
    split: str = Field(
        "", description="JSON file {'train': [...], 'held_out': [...]}; empty: a seeded split"
    )
    workers: int = Field(0, ge=0, description="preprocessing processes; 0: one a core")


class PhantomSettings(Section):
    """The synthetic data set, written only when data.make_phantom is true."""

    cases: int = Field(30, ge=1, le=100_000, description="number of cases")
    matrix: int = Field(512, ge=64, le=1024, description="voxels across a slice")
    seed: int = Field(0, ge=0, description="case n depends on (seed, n) alone")


class PreprocessSettings(Section):
    """From a raw case to what the network sees (P1, P2)."""

    spacing_mm: float = Field(1.99, gt=0, le=20, description="isotropic voxel edge (P1), mm")
    lower_percentile: float = Field(0.5, ge=0, lt=50, description="clip below (P2), percent")
    upper_percentile: float = Field(99.5, gt=50, le=100, description="clip above (P2), percent")
    dtype: Literal["float16", "float32"] = Field(
        "float16",
        description="stored image; half precision rounds a normalized voxel by 2**-11 of itself, "
        "a fraction of a HU and far below the noise, and halves disk, memory and transfer",
    )
    foreground_voxels: int = Field(
        10_000, ge=1, description="least number of voxel positions stored a class (or 1%, if more)"
    )


class SamplingSettings(Section):
    """Patches and batches (O2, O3)."""

    patch_shape: Shape = Field((128, 128, 128), description="patch (z, y, x), voxels (O2)")
    batch_size: int = Field(4, ge=1, description="patches in a global batch (O2)")
    foreground_fraction: Probability = Field(
        1 / 3, description="least share of patches of each batch centered on foreground (O3)"
    )
    threads: int = Field(2, ge=1, le=256, description="threads that read patches")
    prefetch: int = Field(4, ge=1, le=1024, description="batches read ahead")


class AugmentSettings(Section):
    """Augmentation (A1): six independent draws a patch; ranges are nnU-Net's."""

    mirror: Probability = Field(0.4, description="probability; each axis then flips with 1/2")
    rotate: Probability = Field(0.4, description="probability of a rotation about all axes")
    scale: Probability = Field(0.4, description="probability of an isotropic scaling")
    brightness: Probability = Field(0.4, description="probability of a brightness factor")
    contrast: Probability = Field(0.4, description="probability of a contrast factor")
    gamma: Probability = Field(0.4, description="probability of a gamma correction")
    rotation_degrees: float = Field(
        30.0, ge=0, le=180, description="rotation about each axis, uniform in +- this, degrees"
    )
    scale_range: Range = Field((0.7, 1.4), description="size of the object, factor")
    brightness_range: Range = Field((0.75, 1.25), description="factor of the intensities")
    contrast_range: Range = Field((0.75, 1.25), description="factor about the mean")
    gamma_range: Range = Field((0.7, 1.5), description="exponent on intensities in 0..1")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("scale_range", "brightness_range", "contrast_range", "gamma_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two numbers with 0 < low <= high")
        return self


class NetworkSettings(Section):
    """The 3D U-Net (N1-N3)."""

    features: int = Field(32, ge=1, le=1024, description="channels of the first stage (N1)")
    max_features: int = Field(
        1024, ge=1, le=8192, description="cap on a stage's channels; nnU-Net caps at 320"
    )
    smallest: int = Field(4, ge=2, description="downsample the patch to this edge (N1), voxels")
    heads: int = Field(4, ge=1, le=8, description="supervised decoder levels, finest first (N3)")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="computation; auto: bfloat16 on GPU and TPU, float32 on the CPU"
    )
    remat: bool = Field(False, description="recompute activations in the backward pass")
    convolution: Literal["auto", "direct", "planar"] = Field(
        "auto", description="form of the 3D convolution; auto: planar on the CPU, else direct"
    )


class LossSettings(Section):
    """Cross-entropy plus soft Dice at every supervised level (L1, L2)."""

    dice_weight: float = Field(1.0, ge=0, description="factor of the soft Dice loss")
    cross_entropy_weight: float = Field(1.0, ge=0, description="factor of the cross-entropy")
    dice_background: bool = Field(False, description="count background in the soft Dice")
    dice_smooth: float = Field(1e-5, ge=0, description="added above and below in the soft Dice")
    dice_per_batch: bool = Field(
        False, description="one Dice over the whole global batch instead of one a sample"
    )


class OptimizerSettings(Section):
    """Nesterov SGD with polynomial decay (O1)."""

    learning_rate: float = Field(0.06, gt=0, description="initial learning rate")
    momentum: float = Field(0.99, ge=0, lt=1, description="momentum")
    nesterov: bool = Field(True, description="Nesterov's form of the momentum")
    decay_power: float = Field(0.9, gt=0, description="learning rate ~ (1 - step/steps)**power")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(3e-5, ge=0, description="coupled (L2) weight decay")
    clip_norm: float = Field(12.0, gt=0, description="global norm that gradients are clipped to")


class TrainSettings(Section):
    """The run (O2, V2)."""

    epochs: int = Field(1000, ge=1, description="epochs")
    batches: int = Field(250, ge=1, description="training batches an epoch")
    validation_batches: int = Field(50, ge=1, description="validation batches an epoch")
    accumulate: int = Field(1, ge=1, description="micro-batches a step, gradients averaged")
    dice_decay: float = Field(
        0.9, ge=0, lt=1, description="decay of the composite Dice's moving average"
    )
    checkpoint_epochs: int = Field(1, ge=1, description="epochs between checkpoints")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of everything random in training")
    threshold_baseline: bool = Field(
        False, description="score the best plain HU threshold beside the network"
    )


class PredictSettings(Section):
    """Whole-volume prediction by sliding window (V1)."""

    step: float = Field(0.5, gt=0, le=1, description="window stride over patch edge")
    weighting: Literal["gaussian", "uniform"] = Field(
        "gaussian", description="importance within a window; gaussian: sigma = patch / 8"
    )
    mirror: bool = Field(False, description="average the predictions of all eight mirrorings")
    batch_size: int = Field(2, ge=1, description="windows computed at a time")
    bucket: int = Field(
        64, ge=1, description="volumes are padded to multiples of this edge, so few shapes compile"
    )


class RunSettings(Section):
    """Where outputs go and how processes find each other."""

    folder: str = Field("runs/kitsjax", description="run folder")
    compilation_cache: str = Field(
        "~/.cache/kitsjax/xla", description="compiled programs are kept here; empty: not kept"
    )
    cpu_devices: int = Field(
        1, ge=1, le=64,
        description="devices that the CPU is divided into where there is no accelerator; two on "
        "two cores nearly double the speed, since XLA uses more than one core for a device poorly",
    )  # fmt: skip
    coordinator: str = Field(
        "", description="several hosts: 'auto' (TPU pod, SLURM) or host:port; empty: one process"
    )
    processes: int = Field(1, ge=1, description="number of processes, with coordinator host:port")
    process: int = Field(0, ge=0, description="index of this process, with coordinator host:port")


class Settings(Section):
    """Every setting of a run."""

    data: DataSettings = DataSettings()
    phantom: PhantomSettings = PhantomSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    sampling: SamplingSettings = SamplingSettings()
    augment: AugmentSettings = AugmentSettings()
    network: NetworkSettings = NetworkSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    run: RunSettings = RunSettings()


def load_settings(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Settings:
    """Read settings from a TOML file (or the defaults) and apply `section.field=value` overrides.

    Override values are TOML; a bare word is taken as a string.

    Raises:
        InputError: unreadable file, unknown field (the nearest valid name is given), wrong type
            or value out of range (the field's path is given).
    """
    settings = Settings() if path is None else parse_settings(_read_text(Path(path)), str(path))
    return override_settings(settings, overrides)


def parse_settings(text: str, source: str) -> Settings:
    """Settings from TOML text; raises as `load_settings`, with `source` as the text's name."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not valid TOML ({error}); correct that line") from None
    return _validate(tree, source)


def override_settings(settings: Settings, overrides: Iterable[str]) -> Settings:
    """The settings with `section.field=value` overrides applied; raises as `load_settings`."""
    tree = settings.model_dump()
    for override in overrides:
        _apply_override(tree, override)
    return _validate(tree, "--set")


def to_toml(settings: Settings) -> str:
    """The settings as TOML that `load_settings` reads back to the same settings."""
    return tomli_w.dumps(settings.model_dump(mode="json"))


def _validate(tree: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(error)}") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the settings ({error.strerror}); give --config a TOML file"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}); give --config a TOML file") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise InputError(f"--set {override}: write section.field=value, as in train.epochs=10")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    tree.setdefault(parts[0], {})[parts[1]] = value


def _explain(error: ValidationError) -> str:
    """The first problem of a validation in one line, with the field's path."""
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{path}'{_nearest(path)}"
    found = repr(problem["input"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"setting '{path}' = {found[:60]}: {message}; see --print-config for what is valid"


def _nearest(path: str) -> str:
    section, _, field = path.rpartition(".")
    names = {s: list(get_section(s).model_fields) for s in Settings.model_fields}
    if section in names:
        known = [f"{section}.{name}" for name in names[section]]
        # A right name in the wrong section is nearer than a wrong name in the right one.
        elsewhere = [f"{s}.{field}" for s in names if field in names[s]]
        close = elsewhere or difflib.get_close_matches(path, known, 1, 0.5)
    else:
        known = list(names)
        close = difflib.get_close_matches(path, known, 1, 0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid names: {', '.join(known)}"


def get_section(name: str) -> type[Section]:
    """The class of a section of `Settings`."""
    annotation = Settings.model_fields[name].annotation
    assert isinstance(annotation, type)
    return annotation
