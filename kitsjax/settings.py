"""Every setting of a run: its type, range, default and a line of description.

Each module gets the section that it needs; only `train/`, `plan/`, `infer/bundle.py` and the
commands see the whole `Settings`. `docs/paper.md` says which values are the paper's.
"""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Probability = Annotated[float, Field(ge=0, le=1)]
_Edge = Annotated[int, Field(ge=8)]
PatchShape = tuple[_Edge, _Edge, _Edge]
Range = tuple[float, float]
Layout = Literal["auto", "kits", "nnunet", "decathlon", "pairs"]
_Weight = Annotated[float, Field(ge=0)]
_Place = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path, in which ~ is the user's home."""


class Section(BaseModel):
    """A frozen group of settings, which refuses unknown keys and coercions between types."""

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

    root: _Place = Field("data/kits21", description="folder of the data set")
    layout: Layout = Field(
        "auto",
        description="layout of root: folders case_XXXXX as in KiTS; nnU-Net's raw imagesTr, "
        "labelsTr and dataset.json; the Decathlon's dataset.json; or images/ and labels/ with the "
        "same names; auto: the one that is there",
    )
    cache: _Place = Field(
        "",
        description="folder of preprocessed cases; empty: preprocessed/<its name> beside root",
    )
    make_phantom: bool = Field(
        False, description="write the cases of the synthetic data set of [phantom] that root lacks"
    )
    held_out: int = Field(
        60, ge=0, description="number of cases held out at random; 0: train on every case"
    )
    split: _Place = Field(
        "",
        description="JSON file {'train': [...], 'held_out': [...]}, or nnU-Net's "
        "splits_final.json; empty: a seeded random split",
    )
    folds: int = Field(
        0,
        ge=0,
        description="number of folds of a cross-validation, which bin/train.py --fold trains; each "
        "holds out another share of the cases, in place of held_out; 0 or 1: none",
    )
    fold: int = Field(
        -1, ge=-1, description="the fold that is held out; bin/train.py --fold sets it; -1: none"
    )
    split_seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="seed of the random split; runs that share it hold out the same cases, "
        "whatever their train.seed",
    )
    workers: int = Field(0, ge=0, description="worker processes; 0: one per core")
    label_source: str = Field(
        "majority",
        description="label to train on: 'majority'; one annotator's ('annotator_1', ..., or "
        "another annotator's where that one is missing); or 'sample', a new official annotation "
        "sample at every visit of a case. Validation and foreground sampling use the majority",
    )

    @field_validator("label_source")
    @classmethod
    def _label_source_is_known(cls, source: str) -> str:
        if not re.fullmatch(r"majority|sample|annotator_[1-9][0-9]*", source):
            raise ValueError("must be 'majority', 'sample' or an annotator as in 'annotator_1'")
        return source


class PhantomSettings(Section):
    """The synthetic data set, written if data.make_phantom is true."""

    cases: int = Field(30, ge=1, le=100_000, description="number of cases")
    matrix: int = Field(512, ge=64, le=1024, description="voxels across a slice")
    seed: int = Field(0, ge=0, description="seed; case n depends on (seed, n) alone")
    domain: Literal["plain", "wide"] = Field(
        "plain",
        description="plain: contrast-enhanced abdomens, each with kidneys and a tumor, after KiTS; "
        "wide: any body part, phase, patient and scanner, to train on for real CTs",
    )


class EvaluationSettings(Section):
    """A class that is scored: a union of labels, a table [labels.evaluation.<key>]."""

    title: str = Field("", description="name in tables and figures; empty: its key")
    labels: tuple[str, ...] = Field(min_length=1, description="names of the labels that it unites")
    tolerance_mm: float = Field(
        1.0,
        gt=0,
        le=100,
        description="tolerance of its surface Dice, mm: how far apart two experts draw the same "
        "surface. KiTS21's annotators are 1.03 to 1.15 mm apart, about the edge of a CT's voxel",
    )


class LabelSettings(Section):
    """What the values of the label maps mean; `make_scheme` makes a label scheme of it."""

    names: tuple[str, ...] = Field(
        (),
        max_length=254,
        description="names of the labels by value from 1, since 0 is the background; []: the data "
        "set's own, which are KiTS's kidney, tumor and cyst if it names none",
    )
    lesions: tuple[str, ...] = Field(
        (), description="names of the labels whose connected components are counted as lesions"
    )
    ignore: bool = Field(
        False,
        description="the value after the last label means that nobody annotated a voxel: it counts "
        "in no loss, no sampling and no score",
    )
    colors: tuple[str, ...] = Field(
        (), description='color of each label from 1, such as "#d62728"; []: a palette\'s'
    )
    evaluation: dict[str, EvaluationSettings] = Field(
        {},
        description="classes to score, the most inclusive first, each {title, labels, tolerance_mm}"
        " by its key; {}: each label by itself, after the union of all if there are several",
    )

    @field_validator("names")
    @classmethod
    def _labels_have_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _check_name(name)
        if len({name.lower() for name in names} | {"background"}) <= len(names):
            raise ValueError("every label needs a name of its own, other than background")
        if "ignore" in map(str.lower, names):
            raise ValueError(
                "ignore is no label; leave it out, and write labels.ignore = true, which ignores "
                "the value after the last label"
            )
        return names

    @field_validator("colors")
    @classmethod
    def _colors_are_hexadecimal(cls, colors: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch("#[0-9a-fA-F]{6}", color) for color in colors):
            raise ValueError('must be colors such as "#d62728"')
        return colors

    @field_validator("evaluation")
    @classmethod
    def _classes_have_keys(
        cls, classes: dict[str, EvaluationSettings]
    ) -> dict[str, EvaluationSettings]:
        for key in classes:
            _check_name(key)
        return classes


def _check_name(name: str) -> None:
    """Refuse a name that files and tables cannot show."""
    if not name.isprintable() or name != name.strip() or not name:
        raise ValueError(f"{name!r} is no name; write printable text without spaces around it")


class PreprocessSettings(Section):
    """Preprocessing: from a raw case to the image that the network sees."""

    spacing_mm: float = Field(1.99, gt=0, le=20, description="isotropic voxel edge, mm")
    hu_range: tuple[float, ...] = Field(
        (-1024.0, 3071.0),
        description="clip a CT's HU to this range before anything is measured of them, since no "
        "tissue lies beyond it; []: do not clip",
    )
    normalize: Literal["case", "foreground", "fixed"] = Field(
        "case",
        description="clip HU, subtract a mean and divide by a deviation: by the numbers of each "
        "case itself; by those of the labeled voxels of the training cases (after nnU-Net's for "
        "CT); or by `intensities`",
    )
    lower_percentile: float = Field(
        0.5, ge=0, lt=50, description="clip HU below this percentile of the case or foreground"
    )
    upper_percentile: float = Field(
        99.5, gt=50, le=100, description="clip HU above this percentile of the case or foreground"
    )
    intensities: tuple[float, ...] = Field(
        (),
        validate_default=True,
        description='[low, high, mean, deviation] in HU, to give with normalize = "fixed"; with '
        '"foreground" training measures them, and the model keeps them',
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16",
        description="type of the normalized image; half precision halves memory and transfer, and "
        "rounds a voxel by 2**-11 of its value, far below the noise of a CT",
    )
    foreground_voxels: int = Field(
        10_000,
        ge=1,
        description="voxel positions stored per class, at least (or 1 %, if that is more)",
    )

    @field_validator("hu_range")
    @classmethod
    def _hu_range_is_ordered(cls, hu_range: tuple[float, ...]) -> tuple[float, ...]:
        if hu_range and not (len(hu_range) == 2 and hu_range[0] < hu_range[1]):
            raise ValueError("must be two numbers, low < high, or []")
        return hu_range

    @field_validator("intensities")
    @classmethod
    def _intensities_fit(
        cls, intensities: tuple[float, ...], info: ValidationInfo
    ) -> tuple[float, ...]:
        normalize = info.data.get("normalize")
        if normalize == "case" and intensities:
            raise ValueError('must be [] with normalize = "case", which measures each case')
        if not intensities and normalize != "fixed":
            return intensities
        form = "must be [low, high, mean, deviation] in HU"
        if len(intensities) != 4:
            raise ValueError(form)
        low, high, mean, deviation = intensities
        # More than 60,000 deviations would be infinite in half precision.
        if not (low < high and low <= mean <= high and high - low <= 60_000 * deviation):
            raise ValueError(f"{form}, low < high, mean between them, deviation above 0")
        return intensities


class SamplingSettings(Section):
    """Patches and batches."""

    patch_shape: PatchShape = Field((128, 128, 128), description="patch (z, y, x), voxels")
    batch_size: int = Field(4, ge=1, description="patches in a global batch")
    foreground_fraction: Probability = Field(
        1 / 3, description="least share of each batch's patches that are centered on foreground"
    )
    class_weights: tuple[_Weight, ...] = Field(
        (),
        description="weight of each label from 1, for KiTS kidney, tumor and cyst: a foreground "
        "patch is centered on a label drawn with them among those that its case has; 0: never; "
        "[]: all are equal",
    )
    threads: int = Field(2, ge=1, le=256, description="threads that read batches, one each")
    prefetch: int = Field(
        4, ge=1, le=1024, description="batches read in advance, at least one for each thread"
    )

    @field_validator("class_weights")
    @classmethod
    def _a_class_has_weight(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if weights and not any(weights):
            raise ValueError(
                "at least one must be above 0; for no such patches use foreground_fraction = 0"
            )
        return weights


class AugmentSettings(Section):
    """Augmentation: six transforms, applied independently; the ranges are nnU-Net's."""

    mirror: Probability = Field(
        0.4, description="probability of mirroring; each axis then flips with probability 1/2"
    )
    rotate: Probability = Field(0.4, description="probability of a rotation about all axes")
    scale: Probability = Field(0.4, description="probability of an isotropic scaling")
    brightness: Probability = Field(0.4, description="probability of a brightness factor")
    contrast: Probability = Field(0.4, description="probability of a contrast factor")
    gamma: Probability = Field(0.4, description="probability of a gamma correction")
    rotation_degrees: float = Field(
        30.0, ge=0, le=180, description="largest rotation about each axis, degrees"
    )
    scale_range: Range = Field((0.7, 1.4), description="factor of the size of the object")
    brightness_range: Range = Field((0.75, 1.25), description="factor of the intensities")
    contrast_range: Range = Field((0.75, 1.25), description="factor of the distance from the mean")
    gamma_range: Range = Field((0.7, 1.5), description="exponent of intensities scaled to 0..1")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("scale_range", "brightness_range", "contrast_range", "gamma_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two numbers with 0 < low <= high")
        return self


class NetworkSettings(Section):
    """The 3D U-Net."""

    features: int = Field(32, ge=1, le=1024, description="channels of the first stage")
    max_features: int = Field(
        1024, ge=1, le=8192, description="most channels of a stage; nnU-Net's cap is 320"
    )
    smallest: int = Field(4, ge=2, description="smallest edge of a feature map, voxels")
    deep_supervision: int = Field(
        4, ge=1, le=8, description="number of decoder levels with an output, finest first"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="type of the activations; auto: bfloat16 on GPU and TPU, float32 on the CPU",
    )
    remat: bool = Field(
        False, description="recompute activations in the backward pass, to save memory"
    )
    convolution: Literal["auto", "direct", "packed", "merged", "planar", "stacked"] = Field(
        "auto",
        description="implementation of the 3D convolution; auto: planar on the CPU, stacked on a "
        "TPU, merged on a GPU, direct elsewhere",
    )


class LossSettings(Section):
    """The loss at every output: cross-entropy plus soft Dice, and an optional boundary term."""

    regions: bool = Field(
        False,
        description="predict the evaluation classes (KiTS: kidney+masses, masses and tumor) as "
        "overlapping regions, each by a sigmoid with binary cross-entropy and soft Dice, instead "
        "of labels by a softmax; each class must unite the next one and one label more",
    )
    dice_weight: float = Field(1.0, ge=0, description="factor of the soft Dice loss")
    cross_entropy_weight: float = Field(1.0, ge=0, description="factor of the cross-entropy")
    dice_background: bool = Field(False, description="include the background in the soft Dice")
    dice_smooth: float = Field(
        1e-5, ge=0, description="smoothing: added to numerator and denominator of the soft Dice"
    )
    dice_per_batch: bool = Field(
        False, description="compute one Dice over the global batch instead of one per sample"
    )
    boundary_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="factor of the boundary loss, a proxy of surface Dice; 0: not computed",
    )
    boundary_tolerance: int = Field(
        1,
        ge=0,
        le=16,
        description="distance at which its surfaces still match, voxels along each axis",
    )

    @model_validator(mode="after")
    def _regions_have_no_background(self) -> Self:
        if self.regions and self.dice_background:
            raise ValueError("dice_background needs regions = false: no region is the background")
        return self

    @model_validator(mode="after")
    def _something_is_minimized(self) -> Self:
        if not self.dice_weight + self.cross_entropy_weight + self.boundary_weight:
            raise ValueError("all factors of the loss are 0; give at least one another value")
        return self


class OptimizerSettings(Section):
    """Nesterov SGD with polynomial decay of the learning rate."""

    learning_rate: float = Field(0.06, gt=0, description="initial learning rate")
    momentum: float = Field(0.99, ge=0, lt=1, description="momentum")
    nesterov: bool = Field(True, description="use Nesterov momentum")
    decay_power: float = Field(
        0.9,
        gt=0,
        description="power of the decay: learning rate * (1 - step / steps) ** power, both counted "
        "from the end of the warm-up",
    )
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(3e-5, ge=0, description="L2 weight decay, added to the gradient")
    clip_norm: float = Field(12.0, gt=0, description="global norm to which gradients are clipped")


class TrainSettings(Section):
    """The length of training, validation and checkpoints."""

    epochs: int = Field(1000, ge=1, description="number of epochs")
    batches: int = Field(250, ge=1, description="training batches per epoch")
    validation_batches: int = Field(50, ge=1, description="validation batches per epoch")
    accumulation_steps: int = Field(
        1, ge=1, description="gradient accumulation: micro-batches per step"
    )
    dice_decay: float = Field(
        0.9, ge=0, lt=1, description="decay of the moving average of the pseudo-Dice"
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of an exponential moving average of the parameters, which is then "
        "validated, kept and exported in their place; 0: none. It remembers about "
        "1 / (1 - decay) steps",
    )
    init_from: _Place = Field(
        "",
        description="a trained model whose parameters training starts from: a run folder, a model "
        "file, or 'synthetic', the package's own; its labels and its network must be this run's. "
        "A run that is resumed goes on from its own checkpoint; empty: random parameters",
    )
    checkpoint_epochs: int = Field(1, ge=1, description="epochs between checkpoints")
    checkpoint_minutes: float = Field(
        0.0,
        ge=0,
        description="also save a checkpoint, between two steps, when so many minutes have passed "
        "since the last one; 0: only at the end of epochs",
    )
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="seed of initialization, sampling and augmentation"
    )
    threshold_baseline: bool = Field(
        False, description="also score the best plain HU threshold, as a baseline"
    )


class PredictSettings(Section):
    """Prediction of a whole volume by a sliding window."""

    step_size: float = Field(
        0.5, gt=0, le=1, description="stride of the windows as a fraction of the patch edge"
    )
    weighting: Literal["gaussian", "uniform"] = Field(
        "gaussian", description="weights within a window; gaussian: sigma = patch / 8"
    )
    mirror: bool = Field(
        False, description="test-time augmentation: average over all eight mirrorings"
    )
    resample: Literal["label", "probability"] = Field(
        "label",
        description="way back to the CT's own grid; label: nearest neighbor; probability: class "
        "probabilities linearly, then the most probable class: smoother surfaces",
    )
    least_lesion_certainty: float = Field(
        0.0,
        ge=0,
        le=1,
        description="post-processing: turn a lesion into the organ where they touch, else into "
        "background, if the mean probability of any lesion label in it is lower than this; 0: none",
    )
    lesions_touch_organ: bool = Field(
        False,
        description="post-processing: remove lesions (tumors and cysts) that touch no voxel of the "
        "organ (the kidney)",
    )
    least_lesion_ml: float = Field(
        0.0,
        ge=0,
        description="post-processing: turn lesions smaller than this, ml, into the organ where "
        "they touch it, else into background; 0: none",
    )
    lesion_majority: float = Field(
        0.0,
        ge=0,
        le=1,
        description="post-processing: give a lesion of several labels the most frequent one as a "
        "whole, if at least this share of its volume has it; 0.5: always, of two labels; 0: never",
    )
    least_organ_ml: float = Field(
        0.0,
        ge=0,
        description="post-processing: remove connected components of labeled voxels with less of "
        "the organ than this, ml, since a renal mass is part of a kidney; 0: remove none",
    )
    largest_components: int = Field(
        0,
        ge=0,
        description="post-processing: keep so many of the largest components of labeled voxels, "
        "such as 2 for two kidneys; 0: keep all",
    )
    fill_holes: Literal["", "slices", "volume"] = Field(
        "",
        description="post-processing: label the background that labeled voxels enclose like most "
        "of its surface, slice by slice or in the volume; empty: leave it",
    )
    batch_size: int = Field(
        0, ge=0, description="windows per forward pass; 0: two on a GPU, one elsewhere"
    )
    bucket: int = Field(
        64,
        ge=1,
        description="pad rows and columns of the windows' sums to multiples of this edge, so that "
        "few shapes compile",
    )


class RunSettings(Section):
    """The run folder, the devices, and how several processes find each other."""

    folder: _Place = Field("runs/kitsjax", description="run folder")
    compilation_cache: str = Field(
        "~/.cache/kitsjax/xla", description="folder that keeps compiled programs; empty: none"
    )
    cpu_devices: int = Field(
        1, ge=1, le=64,
        description="number of XLA devices to split the CPU into, where there is no accelerator; "
        "one per core is fastest, since XLA makes poor use of several cores for one device",
    )  # fmt: skip
    coordinator: str = Field(
        "",
        description="for several hosts: 'auto' (TPU pod, SLURM) or host:port; empty: one process",
    )
    processes: int = Field(1, ge=1, description="number of processes, with coordinator host:port")
    process: int = Field(0, ge=0, description="index of this process, with coordinator host:port")
    stall_minutes: float = Field(
        15.0, ge=0,
        description="a training that takes no step for so long ends with exit status 75, so that "
        "a scheduler starts it again; 0: it waits",
    )  # fmt: skip
    profile_steps: int = Field(
        0, ge=0,
        description="number of training steps to write a trace of, after the first three; 0: none",
    )  # fmt: skip

    @model_validator(mode="after")
    def _several_processes_find_each_other(self) -> Self:
        if not self.coordinator and (self.processes > 1 or self.process):
            raise ValueError("processes and process need coordinator = host:port")
        return self


class Settings(Section):
    """Every setting of a run."""

    data: DataSettings = DataSettings()
    labels: LabelSettings = LabelSettings()
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

    def without_trace(self) -> Self:
        """Return them as files keep them: a trace is of one start, and no later one asks for it."""
        run = self.run.model_copy(update={"profile_steps": 0})
        return self.model_copy(update={"run": run})
