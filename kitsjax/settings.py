"""Every setting of a run: its type, range, default and a line of description.

Each section is handed to the part of the program that it belongs to; only `train/`,
`infer/bundle.py` and the commands see the whole `Settings`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
    label_source: str = Field(
        "majority",
        description="label trained on (X1): 'majority', one annotator's ('annotator_1', ...; an "
        "instance with fewer annotations goes round them) or 'sample', a fresh official sample at "
        "every visit of a case; validation and foreground positions keep to the majority",
    )

    @field_validator("label_source")
    @classmethod
    def _label_source_is_known(cls, source: str) -> str:
        if not re.fullmatch(r"majority|sample|annotator_[1-9][0-9]*", source):
            raise ValueError("must be 'majority', 'sample' or an annotator as in 'annotator_1'")
        return source


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
    deep_supervision: int = Field(
        4, ge=1, le=8, description="decoder levels with an auxiliary output, finest first (N3)"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="computation; auto: bfloat16 on GPU and TPU, float32 on the CPU"
    )
    remat: bool = Field(False, description="recompute activations in the backward pass")
    convolution: Literal["auto", "direct", "planar", "stacked"] = Field(
        "auto",
        description="form of the 3D convolution; auto: planar on the CPU, stacked on a TPU, else "
        "direct",
    )


class LossSettings(Section):
    """Cross-entropy plus soft Dice at every supervised level (L1, L2), and a boundary term (X2)."""

    dice_weight: float = Field(1.0, ge=0, description="factor of the soft Dice loss")
    cross_entropy_weight: float = Field(1.0, ge=0, description="factor of the cross-entropy")
    dice_background: bool = Field(False, description="count background in the soft Dice")
    dice_smooth: float = Field(1e-5, ge=0, description="added above and below in the soft Dice")
    dice_per_batch: bool = Field(
        False, description="one Dice over the whole global batch instead of one a sample"
    )
    boundary_weight: float = Field(
        0.0, ge=0, le=1000, description="factor of the proxy of surface Dice (X2); 0: not computed"
    )
    boundary_tolerance: int = Field(
        1, ge=0, le=16, description="how far surfaces may lie apart in it, voxels along each axis"
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
    accumulation_steps: int = Field(1, ge=1, description="micro-batches a step, gradients averaged")
    dice_decay: float = Field(
        0.9, ge=0, lt=1, description="decay of the pseudo-Dice's moving average"
    )
    checkpoint_epochs: int = Field(1, ge=1, description="epochs between checkpoints")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of everything random in training")
    threshold_baseline: bool = Field(
        False, description="score the best plain HU threshold beside the network"
    )


class PredictSettings(Section):
    """Whole-volume prediction by sliding window (V1)."""

    step_size: float = Field(0.5, gt=0, le=1, description="window stride over patch edge")
    weighting: Literal["gaussian", "uniform"] = Field(
        "gaussian", description="importance within a window; gaussian: sigma = patch / 8"
    )
    mirror: bool = Field(False, description="average the predictions of all eight mirrorings")
    batch_size: int = Field(
        0, ge=0, description="windows computed at a time; 0: two on a GPU, else one"
    )
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
