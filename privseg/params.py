"""``params.yaml``, typed: one pydantic model a section, every field with its meaning and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from privseg.errors import UsageError

__all__ = ["Params", "check_params", "load_params", "read_params_file"]

PARAMS_FILE = Path("params.yaml")
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,40}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageParams(_Section):
    """The shape every ingested image and mask gets."""

    size: int = Field(512, ge=64, le=2048, multiple_of=32, description="height and width in pixels")
    resize: Literal["letterbox", "stretch"] = Field(
        "letterbox", description="letterbox keeps proportions and labels its padding 255; stretch fills the square"
    )


class Partition(_Section):
    """One image folder and its mask folder inside a ``pairs`` source."""

    pool: Literal["train", "test"] = Field(description="where its samples may go: the training pool or the test split")
    images: str = Field(description="image folder, relative to the source's path")
    masks: str = Field(description="mask folder, relative to the source's path")
    mask_suffix: str = Field("", description="what the mask's name adds to the image's stem: X.jpg, X<suffix>.png")
    hold_out_every: int | None = Field(
        None, ge=2, description="every so many images by name, from the first, go to the test pool instead"
    )


class SourceParams(_Section):
    """One dataset to ingest; ``kind`` names the reader in ``privseg.datasets.sources``."""

    kind: Name = Field(description="the reader to use: voc, cocostuff164k, ade20k, coco_instances, pairs, synthetic, …")
    path: str = Field("", description="folder, relative to raw_root; a synthetic source has none")
    terms: str = Field("", description="licence or terms of use; carried into the model's record")
    limit: int | None = Field(None, ge=1, description="at most this many samples a pool, evenly spaced by name")
    no_human_share: float | None = Field(
        None, ge=0.0, le=10.0, description="pictures without people to add, per picture with people; none: all"
    )
    human: Literal["positive"] | list[int] = Field("positive", description="mask values that mean a person (pairs)")
    ignore: list[int] = Field(default_factory=list, description="mask values that become 255 (pairs)")
    partitions: list[Partition] = Field(default_factory=list, description="folders of a pairs source")
    count: int = Field(240, ge=4, le=100_000, description="scenes to render (synthetic)")
    test_share: Ratio = Field(0.2, description="share of rendered scenes in the test pool (synthetic)")


class IngestParams(_Section):
    """How the work on a source is divided; results do not depend on it."""

    shard_size: int = Field(
        500, ge=1, le=100_000, description="samples a shard, fewer in a small source: what a crash costs"
    )
    workers: int = Field(8, ge=1, le=1000, description="Airflow tasks that a source of several shards is spread over")
    processes: int = Field(0, ge=0, le=256, description="worker processes; 0: one a processor, at most 8")


class CleanseParams(_Section):
    """Thresholds of the rules that remove an image from the dataset, and of those that only call it suspicious."""

    min_original_side: int = Field(120, ge=1, description="pixels of the shorter side before resizing")
    min_human_ratio: Ratio = Field(0.002, description="human share below it, yet above zero")
    max_human_ratio: Ratio = Field(0.6, description="human share above it")
    max_component_ratio: Ratio = Field(0.6, description="largest component's share of the picture; above: a close-up")
    max_borders_touched: int = Field(2, ge=0, le=4, description="borders a person may touch; more: a close-up")
    min_surveillance_score: Ratio = Field(0.12, description="people, but a score below it: a close-up")
    min_component_height: int = Field(20, ge=0, description="pixels; an image with people needs one this tall")
    max_ignore_ratio: Ratio = Field(0.6, description="unlabelled share above it: not enough to learn from")
    min_pixel_std: float = Field(3.0, ge=0.0, description="grey-level standard deviation below it: blank")
    near_duplicate_bits: int = Field(
        6, ge=0, le=16, description="of 64 bits of the perceptual hash: pictures that differ in at most so many are one"
    )
    suspect_box_fill: Ratio = Field(0.92, description="a large person that fills its bounding box so much is a box")
    suspect_contour_contrast: float = Field(3.0, ge=0.0, description="grey levels; outlines in flat regions below it")
    suspect_components: int = Field(40, ge=1, description="components above it: a fragmented label")


class MergeParams(_Section):
    """How the cleansed sources become one dataset."""

    no_human_share: float = Field(
        0.10, ge=0.0, le=10.0, description="pictures without people per kept picture with people, a pool (the study's)"
    )


class SplitParams(_Section):
    """How kept samples are divided; assignment is by hash, so new data never moves an old image."""

    validation_share: Ratio = Field(0.05, description="share of the kept training pool")


class GateParams(_Section):
    """What the dataset must satisfy before anything is trained on it."""

    min_images: int = Field(40, ge=1, description="kept images, all splits together")
    min_train_images: int = Field(24, ge=1, description="kept images in the training split")
    min_test_images: int = Field(8, ge=1, description="kept images in the test split")
    min_human_share: Ratio = Field(0.2, description="share of kept images that show a person")
    min_mean_human_ratio: Ratio = Field(0.005, description="mean human pixel share over kept images with people")
    max_mean_human_ratio: Ratio = Field(0.5, description="same, from above")
    max_removed_share: Ratio = Field(0.5, description="share of ingested images that cleansing may remove")
    max_unreadable: int = Field(0, ge=0, description="images or masks that could not be read or do not fit")
    min_source_images: int = Field(1, ge=0, description="images every source gives: kept, or copies of kept ones")
    max_suspect_share: Ratio = Field(0.2, description="kept images whose label is suspicious; above: a warning")
    psi_warning: float = Field(0.1, ge=0.0, description="population stability index against the previous version")
    psi_limit: float = Field(0.25, ge=0.0, description="same; above it the gate closes. Raise it for a meant change")
    hashed_files: int = Field(5000, ge=0, description="pairs whose bytes are compared; of all others the files exist")
    decoded_pairs: int = Field(200, ge=1, description="pairs whose pixels are checked")


class TrainProfile(_Section):
    """One training budget; whichever of seconds and iterations ends first ends the training."""

    seconds: float = Field(gt=0, description="wall-clock seconds a candidate")
    max_iterations: int = Field(ge=1, description="optimiser steps a candidate")
    batch_size: int = Field(ge=2, le=512, description="images a step, all processes and accumulated parts together")
    crop: int = Field(ge=64, le=2048, multiple_of=32, description="pixels of the square training crop")
    learning_rate: float = Field(gt=0, le=1, description="peak learning rate of AdamW")
    workers: int = Field(0, ge=0, le=64, description="data loading processes")
    accumulate: int = Field(1, ge=1, le=64, description="parts a batch is computed in; more parts need less memory")
    validate_every: int = Field(500, ge=1, description="optimiser steps between looks at the validation split")
    patience: int = Field(0, ge=0, description="looks without a better score before training stops early; 0: never")
    checkpoint_seconds: float = Field(60.0, gt=0, description="seconds between checkpoints a killed run goes on from")


class AugmentParams(_Section):
    """What is done to a training picture so that it looks like a camera's; shares are of the crops."""

    min_scale: float = Field(0.35, gt=0, le=1, description="smallest random scale: people far away")
    max_scale: float = Field(1.6, ge=1, le=4, description="largest random scale")
    person_share: Ratio = Field(0.5, description="crops that must contain a person, where there is one")
    copy_paste: Ratio = Field(0.3, description="crops of people-free pictures that get human cut-outs pasted in")
    photometric: Ratio = Field(0.8, description="brightness, contrast, saturation and hue")
    night: Ratio = Field(0.1, description="little light with sensor noise")
    blur: Ratio = Field(0.1, description="defocus or motion")
    compression: Ratio = Field(0.2, description="JPEG artefacts")
    low_resolution: Ratio = Field(0.1, description="down and up again, as a cheap camera's stream")
    grey: Ratio = Field(0.1, description="grey-scale, as an infra-red camera's")


class LossParams(_Section):
    """The losses of every candidate's main head; auxiliary heads keep cross-entropy."""

    human_weight: float = Field(3.0, gt=0, description="weight of human pixels in the cross-entropy")
    hard_share: float = Field(1.0, gt=0, le=1, description="hardest pixels that count (OHEM); 1: all")
    dice: float = Field(0.0, ge=0, description="weight of the soft Dice loss of the human class")
    boundary: float = Field(0.0, ge=0, description="extra weight of pixels at a person's outline")


class TrainParams(_Section):
    """Training budgets by profile, and what all profiles share."""

    smoke: TrainProfile
    full: TrainProfile
    augment: AugmentParams = AugmentParams()
    loss: LossParams = LossParams()
    ema: float = Field(0.001, ge=0, le=1, description="share of each step in the averaged weights; 0: no average")
    amp: bool = Field(True, description="half precision where there is a GPU")
    source_weights: dict[Name, Annotated[float, Field(ge=0.2, le=20)]] = Field(
        default_factory=dict, description="how often a source's pictures are drawn, in fifths; 1 where not named"
    )
    no_human_weight: float = Field(
        1.0, ge=0.2, le=20, description="how often pictures without people are drawn relative to the others"
    )
    backbones: dict[Name, str] = Field(
        default_factory=dict, description="candidate to a local file with pre-trained backbone weights"
    )


class BenchmarkProfile(_Section):
    """How much is measured."""

    max_test_images: int = Field(ge=1, description="test images measured, evenly spaced over the sorted test split")
    timed_runs: int = Field(ge=3, description="timed forward passes; the median is reported")
    warm_up_runs: int = Field(ge=0, description="passes before the timed ones")
    timed_seconds: float = Field(
        10.0, gt=0, description="seconds one measurement may take; slow models get fewer runs, three at least"
    )
    shapes: list[tuple[int, int]] = Field(
        default=[(512, 512)], min_length=1, description="heights and widths in pixels at which speed is measured"
    )
    runtimes: list[Literal["pytorch", "onnxruntime", "openvino"]] = Field(
        default=["pytorch"], min_length=1, description="what runs the model when speed is measured"
    )


class BenchmarkParams(_Section):
    """Benchmark effort by profile."""

    smoke: BenchmarkProfile
    full: BenchmarkProfile
    threshold: Ratio = Field(0.5, description="person probability at which a pixel counts as human")


class SelectParams(_Section):
    """How the winner is chosen, and when it replaces the model that serves."""

    beta: float = Field(2.0, gt=0, le=10, description="F-beta of human pixels: recall counts beta times precision")
    max_latency_ms: float = Field(400.0, gt=0, description="median latency at image.size; slower ones cannot win")
    latency_runtime: Literal["pytorch", "onnxruntime", "openvino"] = Field(
        "pytorch", description="the runtime whose latency the budget is held against; one of the profile's"
    )
    min_iou: Ratio = Field(0.0, description="a winner below it fails the run")
    min_survivors: int = Field(
        2,
        ge=1,
        description="candidates that must be trained and measured; fewer fail the run. Never more than are listed, on "
        "purpose: of a list of one, that one is enough",
    )
    bootstrap_samples: int = Field(
        2000, ge=100, le=100_000, description="resamples of the test pictures; more where confidence needs them"
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        le=0.999,
        description="share of the resamples in which a challenger must beat the champion; the best of K candidates: "
        "1 - (1 - confidence) / K",
    )
    min_gain: float = Field(0.0, ge=0, le=1, description="score by which it must beat it")


VariantName = Literal["float32", "float16", "int8"]


class Int8Params(_Section):
    """What the 8-bit variant may lose against the trained model and still be published."""

    max_recall_loss: Ratio = Field(0.005, description="of human pixels on the test split")
    max_miss_rate_gain: Ratio = Field(0.01, description="of people of whom too little is covered")
    max_mean_difference: float = Field(4.0, ge=0, description="mean absolute difference to single precision, in 1/255")
    min_mask_agreement: Ratio = Field(0.98, description="share of pixels with the same decision")


class ExportProfile(_Section):
    """How many pictures the export looks at."""

    calibration_pictures: int = Field(ge=1, le=10_000, description="training pictures that 8 bits are measured on")
    parity_pictures: int = Field(ge=1, le=10_000, description="test pictures that every runtime answers")


class ExportParams(_Section):
    """The variants of the winner, which of them is published, and the comparison of the runtimes."""

    opset: int = Field(17, ge=17, le=20, description="ONNX operator set")
    publish: VariantName = Field("float16", description="a variant that may not be published falls back to float16")
    max_mean_difference: float = Field(1.0, ge=0, description="mean absolute difference to PyTorch, in 1/255")
    min_mask_agreement: Ratio = Field(0.999, description="share of pixels with the same decision")
    parity_triton: bool = Field(True, description="ask a throw-away Triton, too; needs one on this machine")
    int8: Int8Params = Int8Params()
    smoke: ExportProfile = ExportProfile(calibration_pictures=8, parity_pictures=3)
    full: ExportProfile = ExportProfile(calibration_pictures=32, parity_pictures=24)

    @property
    def half_weights(self) -> bool:
        """Whether weights are stored in half precision where speed is measured: all but float32 are smaller."""
        return self.publish != "float32"


class AuditParams(_Section):
    """What the version that serves must still do on golden clips; a breach takes it back."""

    clips: int = Field(2, ge=0, le=100, description="clips privseg draws; clips of your own are audited beside them")
    frames: int = Field(40, ge=2, le=10_000, description="frames of a drawn clip")
    min_person_recall: Ratio = Field(0.6, description="covered share of the people's pixels")
    max_recall_drop: Ratio = Field(0.1, description="of that share, against the last audit of another version")
    max_leak_frame_ratio: Ratio = Field(0.8, description="frames in which somebody is not covered to 80 %")
    max_background_covered: Ratio = Field(0.5, description="covered share of the background; beyond, nothing is seen")
    max_withheld_ratio: Ratio = Field(0.1, description="frames without an answer; beyond, nothing is known")
    max_mean_difference: float = Field(2.0, ge=0, description="of the servers' answers to the version's file, in 1/255")
    min_mask_agreement: Ratio = Field(0.99, description="share of pixels with the same decision")


class PublishParams(_Section):
    """When a model counts as one that does not look at the picture, on golden scenes; such a one is never published."""

    min_found: Ratio = Field(0.02, description="share of the drawn people's pixels; less is nobody")
    max_called: Ratio = Field(0.98, description="share of the pixels that show nobody; more is everybody")
    min_spread: float = Field(1.0, ge=0, le=255, description="how far answers to different pictures differ, in 1/255")


class Params(_Section):
    """The whole of ``params.yaml``."""

    profile: Literal["smoke", "full"] = Field("smoke", description="smoke: a first result in minutes; full: in earnest")
    seed: int = Field(7, ge=0, le=2**31 - 1, description="seed of rendering, training and sampling")
    raw_root: str = Field(".", description="folder the sources' paths are relative to")
    image: ImageParams = ImageParams()
    sources: dict[Name, SourceParams] = Field(min_length=1, description="datasets to ingest, by name")
    public_sources: dict[Name, SourceParams] = Field(
        default_factory=dict, description="used instead of sources when a data folder is given"
    )
    ingest: IngestParams = IngestParams()
    cleanse: CleanseParams = CleanseParams()
    merge: MergeParams = MergeParams()
    split: SplitParams = SplitParams()
    gate: GateParams = GateParams()
    candidates: list[Name] = Field(min_length=1, description="models to train and compare, each once")
    train: TrainParams
    benchmark: BenchmarkParams
    select: SelectParams = SelectParams()
    export: ExportParams = ExportParams()
    publish: PublishParams = PublishParams()
    audit: AuditParams = AuditParams()

    @field_validator("candidates")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(repeated)} is there more than once")
        return names

    @property
    def train_profile(self) -> TrainProfile:
        """The training budget of the active profile."""
        return self.train.smoke if self.profile == "smoke" else self.train.full

    @property
    def export_profile(self) -> ExportProfile:
        """The export effort of the active profile."""
        return self.export.smoke if self.profile == "smoke" else self.export.full

    @property
    def benchmark_profile(self) -> BenchmarkProfile:
        """The benchmark effort of the active profile."""
        return self.benchmark.smoke if self.profile == "smoke" else self.benchmark.full


def read_params_file(path: Path) -> dict[str, Any]:
    """Read a parameter file as plain data.

    Raises:
        UsageError: The file is missing or is not a YAML mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(path, "does not exist", "name a file that does, or work where it lies") from None
    except yaml.YAMLError as error:
        raise UsageError(path, f"is not valid YAML ({error})", "correct the file") from None
    if not isinstance(data, dict):
        raise UsageError(path, "holds no mapping of parameters", "correct the file")
    return data


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        UsageError: The file is missing, is not YAML, or a field is unknown or out of bounds; the message names it.
    """
    return check_params(read_params_file(path), path)


def check_params(values: dict[str, Any], path: Path) -> Params:
    """Check parameters that are plain data; ``path`` is what a message names.

    Raises:
        UsageError: A field is unknown or out of bounds; the message names it.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UsageError(path, f"{field}: {first['msg']}{more}", f"correct {field}") from None
