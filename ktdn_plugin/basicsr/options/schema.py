"""What an options file may say: the one home of each key's type, default and meaning.

A class for each section, a field for each key. The layout is BasicSR's own. Sections that are built
by somebody's constructor (networks, losses, optimisers, metrics) only need a ``type`` here: their
other keys are the constructor's, see :mod:`ktdn_plugin.basicsr.dry_run`.

Keys that only some models or datasets read name them (``of``). Other plugins' models and datasets
have keys of their own, which pass.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from ktdn_plugin.data.skipping import AT_MOST
from ktdn_plugin.scenes.opening import LAYOUTS
from ktdn_plugin.training.distributed import TIMEOUT

STEP_MODELS = ("KTDNModel", "KTDNTeacherModel")
"""The models whose training step has switches: mixed precision, frozen batch norm, ..."""
STUDENT = ("KTDNModel",)
STOCK_MODELS = (*STEP_MODELS, "SRModel")
"""The models whose keys are all known."""

OUR_DATASETS = ("ClearImageDataset", "PairedHazeDataset", "SyntheticHazeDataset")
HAZY_ALONE = "SingleImageDataset"
BASICSR_DATASETS = ("PairedImageDataset", HAZY_ALONE)
KNOWN_DATASETS = (*OUR_DATASETS, *BASICSR_DATASETS)
"""The datasets whose keys are all known."""
ROOTS = {
    **dict.fromkeys(OUR_DATASETS, ("dataroot_gt",)),  # dataroot_lq as well where it is not a store
    "PairedImageDataset": ("dataroot_gt", "dataroot_lq"),
    HAZY_ALONE: ("dataroot_lq",),
}
"""What names the images of each known dataset."""
SYNTHETIC = ("SyntheticHazeDataset",)

OF, TRAINING, WANTED = "x-of", "x-training", "errorMessage"
"""Keywords of the JSON schema beside the standard's; editors show the last one."""


def key(
    meaning: str,
    default: Any = None,
    *,
    of: tuple[str, ...] = (),
    training: bool = False,
    wanted: str = "",
    **limits: Any,
) -> Any:
    """Describes a key.

    Args:
        meaning: What it does, for the file's author.
        default: What holds where it is left out; ``...`` where it must be given.
        of: The models or datasets that read it; without any, all.
        training: A dataset's key that only training reads: others get no default.
        wanted: What a value must be, where the type does not say it in words.
        limits: Limits of a number's value or a text's length, as pydantic has them.
    """
    extra: dict[str, Any] = {}
    if of:
        extra[OF] = list(of)
        meaning = f"{meaning} ({', '.join(of)})"
    if training:
        extra[TRAINING] = True
    if wanted:
        extra[WANTED] = wanted
    if callable(default):
        limits["default_factory"] = default
    else:
        limits["default"] = default
    return Field(description=meaning, json_schema_extra=extra, **limits)


def _whole(value: Any) -> Any:
    """Takes 5e3 for a whole number, as BasicSR's own files write it; it is a float's value too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without_empty(value: Any) -> Any:
    """Drops what has no value (``~``), as if it were not there."""
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if inner is not None}


Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FOLDER_NAME = r"^[^./\\\x00][^/\\\x00]{0,149}$"
"""A name that leads nowhere else."""


class Section(BaseModel):
    """A section of an options file, whose keys are all known.

    Attributes:
        MORE: Pattern of other keys, which the author names.
        MORE_OF: The models that read such keys; without any, all.
    """

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    MORE: ClassVar[str] = ""
    MORE_OF: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def kind(cls, values: dict[str, Any], model: str) -> str:
        """Returns what decides which keys there are: the run's model.

        Args:
            values: The section's values.
            model: The run's ``model_type``.
        """
        return model

    @classmethod
    def fields(cls, kind: str) -> dict[str, FieldInfo]:
        """Returns the fields that a model or dataset of this kind reads."""
        return {
            name: field
            for name, field in cls.model_fields.items()
            if not (of := extra_of(field).get(OF)) or kind in of
        }

    @classmethod
    def takes_more(cls, name: object, kind: str) -> bool:
        """Returns whether a key is one of those whose names are the author's."""
        is_read = not cls.MORE_OF or kind in cls.MORE_OF
        return bool(cls.MORE) and is_read and re.search(cls.MORE, str(name)) is not None

    @model_validator(mode="before")
    @classmethod
    def _look_at_known_keys(cls, values: Any, info: ValidationInfo) -> Any:
        """Leaves out keys without a value, and keys that mean something else to another plugin."""
        if not isinstance(values, dict) or (cls.model_config["extra"] == "allow" and not cls.MORE):
            return _without_empty(values)
        kind = cls.kind(values, (info.context or {}).get("model", ""))
        known = cls.fields(kind)
        return {
            name: _whole(value)
            for name, value in values.items()
            if value is not None and (name in known or cls.takes_more(name, kind))
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Adds the pattern by which other keys are named."""
        schema: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        if cls.MORE:
            schema["patternProperties"] = {cls.MORE: schema["additionalProperties"]}
            schema["additionalProperties"] = False
        return schema


def extra_of(field: FieldInfo) -> dict[str, Any]:
    """Returns what :func:`key` notes of a key beside what pydantic knows."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def is_of_training(field: FieldInfo) -> bool:
    """Returns whether only training reads a dataset's key."""
    return bool(extra_of(field).get(TRAINING))


def section_of(field: FieldInfo | type) -> type[Section] | None:
    """Returns the class of the section, or of the sections, that a field holds."""
    annotation = field.annotation if isinstance(field, FieldInfo) else field
    is_generic = get_origin(annotation) is not None  # and yet a type to Python 3.10
    if not is_generic and isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


class TypedSection(Section):
    """Something by its ``type``; other keys are its constructor's."""

    model_config = ConfigDict(extra="allow")

    type: Text = key("Its name in the registry.", ...)


class Network(TypedSection):
    """A network of BasicSR's registry; other keys are its arguments."""

    type: Text = key("The network: KTDN, or another registered one.", ...)
    pretrained: bool | Text | None = key(
        "Pretrained weights of the encoder: true downloads them, a path loads a file.",
        wanted="true, false or a path",
    )


class Scheduler(TypedSection):
    """A schedule of the learning rate; other keys are its arguments."""

    type: Text = key("CosineAnnealingRestartLR or MultiStepLR.", ...)
    periods: list[int] | None = key("Steps of each cosine; together at least total_iter.")
    restart_weights: list[float] | None = key("Factor on the learning rate in each of periods.")
    milestones: list[float] | None = key("Steps at which the learning rate drops.")


class Optimizer(TypedSection):
    """An optimiser of torch or timm; other keys are its arguments."""

    type: Text = key("Any optimiser of torch (Adam, AdamW, ...) or timm (lion, adan, ...).", ...)
    lr: Positive = key("Learning rate.", ...)
    encoder_lr: Positive | None = key("The encoder's own learning rate; default: lr.")


class Metric(TypedSection):
    """A metric of BasicSR's registry; other keys are its arguments."""

    type: Text = key("The metric: calculate_psnr, calculate_ssim, ...", ...)
    crop_border: int | None = key("Width of the border to ignore, in pixels.", ge=0)
    better: Literal["higher", "lower"] | None = key("Which values are better.")


class Dataset(Section):
    """The images of one phase."""

    @classmethod
    def kind(cls, values: dict[str, Any], model: str) -> str:
        """Returns what decides which keys there are: the dataset's type."""
        return str(values.get("type"))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Allows other keys for datasets of other plugins."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        del schema["additionalProperties"]
        schema["if"] = {"properties": {"type": {"enum": list(KNOWN_DATASETS)}}}
        schema["then"] = {"propertyNames": {"enum": list(cls.model_fields)}}
        return schema

    name: str | None = key(
        "Its name in logs and folders; default: the phase.",
        pattern=FOLDER_NAME,
        wanted="the name of a folder: no slashes, no leading dot, at most 150 characters",
    )
    type: Text = key("The dataset's class: PairedHazeDataset, ClearImageDataset, ...", ...)
    phase: Text | None = key("Filled in: train, val or test.")
    scale: int | None = key("Filled in: the run's scale.")
    dataroot_gt: Text | None = key(
        "The clear images: a folder, an LMDB, a store, or a dataset as unpacked (layout).",
        of=(*OUR_DATASETS, "PairedImageDataset"),
    )
    dataroot_lq: Text | None = key(
        "The hazy images: a folder or an LMDB.", of=("PairedHazeDataset", *BASICSR_DATASETS)
    )
    dataroot_depth: Text | None = key(
        "A folder of depth maps with the images' names, brighter where farther.", of=SYNTHETIC
    )
    layout: Literal[tuple(LAYOUTS)] | None = key(  # type: ignore[valid-type]
        "How the dataset in dataroot_gt is laid out.",
        of=OUR_DATASETS,
        wanted=f"one of {', '.join(LAYOUTS)}",
    )
    split: Text | None = key(
        "The split of the layout, reported with every metric.", of=OUR_DATASETS
    )
    allow_incomplete: bool = key(
        "Accept an incomplete copy of the layout, and report what is missing.",
        False,
        of=OUR_DATASETS,
    )
    filename_tmpl: Text | None = key(
        "How a hazy file is named after its clear one: '{}_hazy'.",
        of=("PairedHazeDataset", *BASICSR_DATASETS),
    )
    meta_info_file: Text | None = key("A text file that lists the images to use.")
    io_backend: dict[str, Any] = key(
        "How files are read: {type: disk} or {type: lmdb}.", lambda: {"type": "disk"}
    )
    color: Text | None = key("y for luminance only; KTDN needs RGB.", of=BASICSR_DATASETS)
    mean: list[float] | None = key("Channel means to subtract.", of=BASICSR_DATASETS)
    std: list[float] | None = key("Channel standard deviations to divide by.", of=BASICSR_DATASETS)
    haze: dict[str, Any] | None = key("Ranges from which each image's haze is drawn.", of=SYNTHETIC)
    degradation: dict[str, Any] | None = key(
        "Other kinds of haze, and camera degradations.", of=SYNTHETIC
    )
    gt_size: int | None = key("Height and width of the crops, in pixels.", ge=1, le=2**14)
    use_hflip: bool = key("Flip crops horizontally at random.", True, training=True)
    use_rot: bool = key("Flip crops vertically and transpose them at random.", True, training=True)
    use_scale: list[float] | None = key("Random scaling, [min, max].", of=OUR_DATASETS)
    color_jitter: dict[str, Any] | None = key(
        "Random brightness, contrast, saturation and hue.", of=OUR_DATASETS
    )
    batch_size_per_gpu: int | None = key("Crops per step on each GPU.", ge=1, le=2**16)
    num_worker_per_gpu: int = key(
        "Data-loading processes per GPU.", 4, training=True, ge=0, le=1024
    )
    dataset_enlarge_ratio: int = key(
        "Passes over the images that count as one epoch.",
        1,
        training=True,
        ge=1,
        le=10**6,
    )
    pin_memory: bool = key("Copy batches to the GPU from pinned memory.", False, training=True)
    persistent_workers: bool = key(
        "In BasicSR's own loop: keep workers between epochs.", False, training=True
    )
    use_shuffle: bool = key(
        "In BasicSR's own loop: shuffle; ours always does.", True, training=True
    )
    prefetch_mode: Literal["cuda"] | None = key(
        "cuda copies the next batch to the GPU during the current step.",
        wanted="cuda, or omitted: workers prefetch anyway, and the other mode hangs "
        "when a file cannot be read",
    )
    on_error: Literal["raise", "skip"] = key(
        "What to do with an unreadable image: raise stops, skip uses the next one.",
        "raise",
        of=KNOWN_DATASETS,
        training=True,
    )
    skip_at_most: float = key(
        "Share of the images that on_error: skip may skip.",
        AT_MOST,
        of=KNOWN_DATASETS,
        training=True,
        ge=0,
        lt=1,
    )


class Paths(Section):
    """Checkpoints that are read, and folders that are written."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, bool | Text]
    MORE = "^(pretrain_network|strict_load|param_key)_"

    pretrain_network_g: Text | None = key("The checkpoint to start from, or to test.")
    pretrain_network_t: Text | None = key("The trained teacher's checkpoint.")
    strict_load_g: bool = key(
        "Require that the checkpoint's weights match the network exactly.", True
    )
    strict_load_t: bool = key("The same for the teacher.", True)
    param_key_g: Text | None = key("Which of its weights: params_ema (averaged) or params.")
    param_key_t: Text = key("Which of its weights: params_ema (averaged) or params.", "params_ema")
    resume_state: Text | None = key("A training state to resume from; see also --auto_resume.")
    ignore_resume_networks: list[Text] | None = key("Networks that resume_state does not load.")
    experiments_root: Text | None = key("The training's folder; default: experiments/NAME.")
    results_root: Text | None = key("The results' folder; default: results/NAME.")


def _frozen_after(train: dict[str, Any]) -> int:
    """Returns SRKTDN's recipe: statistics are frozen for the last three quarters (NTIRE 2021)."""
    return max(train["total_iter"] // 4, 1)


MODULES: dict[str, Any] = {
    "of": STUDENT,
    "wanted": "a section of 'feature: module' lines, such as mid: body.3; put numbers in quotes",
}


class Train(Section):
    """How to train; each ``NAME_opt`` is a loss, switched off by leaving it out."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TypedSection]
    MORE = "_opt$"
    MORE_OF = STEP_MODELS

    total_iter: int = key("Number of training steps.", ..., ge=1, le=10**12)
    warmup_iter: int = key("Steps over which the learning rate warms up; -1: none.", -1, ge=-1)
    ema_decay: float = key(
        "Decay of the weights' moving average; 0 switches it off.", 0.0, ge=0, lt=1
    )
    optim_g: Optimizer = key("The optimiser.", ...)
    scheduler: Scheduler = key("The learning rate's schedule.", ...)
    pixel_opt: TypedSection | None = key("Loss on pixels: {type: L1Loss}.")
    laplacian_opt: TypedSection | None = key(
        "Loss on the Laplacian pyramid: {type: LaplacianLoss}.", of=STEP_MODELS
    )
    ssim_opt: TypedSection | None = key(
        "Structural similarity loss: {type: SSIMLoss}.", of=STEP_MODELS
    )
    lab_opt: TypedSection | None = key("Loss in CIE Lab: {type: LabLoss}.", of=STEP_MODELS)
    perceptual_opt: TypedSection | None = key("Loss on VGG's features: {type: PerceptualLoss}.")
    transfer_opt: TypedSection | None = key(
        "Loss on the teacher's features: {type: KnowledgeTransferLoss}.", of=STUDENT
    )
    features_g: dict[str, str] | None = key(
        "The student's modules whose outputs are compared.", **MODULES
    )
    features_t: dict[str, str] | None = key(
        "The teacher's modules whose outputs are compared.", **MODULES
    )
    teacher_min_psnr: Positive | None = key(
        "PSNR (dB) that the teacher's reconstruction must reach before training.", of=STUDENT
    )
    amp: Annotated[
        Literal["off", "bf16", "fp16"],
        # YAML 1.1 reads off as false.
        BeforeValidator(lambda value: "off" if value is False else value),
    ] = key("Mixed precision.", "off", of=STEP_MODELS)
    channels_last: bool = key(
        "Use the channels-last memory layout, which tensor cores prefer.", False, of=STEP_MODELS
    )
    compile: bool = key("Compile the networks with torch.compile.", False, of=STEP_MODELS)
    grad_accum_steps: int = key(
        "Number of parts of a batch whose gradients are accumulated.",
        1,
        of=STEP_MODELS,
        ge=1,
        le=2**16,
    )
    clip_grad: Positive | None = key("Clip the gradient to this norm.", of=STEP_MODELS)
    freeze_bn: bool | Annotated[int, Field(ge=0)] = key(
        "The step after which batch norm statistics are frozen; true: from the start; false: "
        "never.",
        _frozen_after,
        of=STEP_MODELS,
        wanted="true, false, or the iteration after which batch statistics are frozen",
    )
    # One GPU's batch is the recipe's; several processes make the same one together.
    sync_bn: bool = key(
        "Synchronise batch statistics over all processes (on GPUs).", True, of=STEP_MODELS
    )
    clamp_output: bool = key("Clamp images to [0, 1] before losses.", False, of=STEP_MODELS)


class Val(Section):
    """When and how to validate; left out, there is no validation."""

    val_freq: int = key("Steps between validations.", 5000, ge=1)
    save_img: bool = key("Save the output images.", False)
    suffix: str = key(
        "Suffix of the saved images' names; default: the run's name.",
        "",
        pattern=f"^$|{FOLDER_NAME}",
        wanted="a string without slashes (the suffix of the results' names)",
    )
    metrics: dict[str, Metric] | None = key("Metrics, under names of your choice.")
    best_metric: Text | None = key(
        "The metric that decides which network is net_g_best.pth; default: the first."
    )
    pbar: bool = key("Show a progress bar even without a terminal.", False)


class Wandb(Section):
    """Weights & Biases."""

    project: Text | None = key("The project; omitted: off.")
    resume_id: Text | None = key("The run to resume.")


class Logger(Section):
    """Log lines and checkpoints."""

    print_freq: int = key("Steps between log lines.", 100, ge=1)
    save_checkpoint_freq: int = key("Steps between checkpoints.", 5000, ge=1)
    keep_checkpoints: int | None = key("Number of newest checkpoints to keep; default: all.", ge=1)
    use_tb_logger: bool = key("Log to tensorboard, in tb_logger/NAME.", False)
    wandb: Wandb | None = key("Weights & Biases; needs use_tb_logger: true.")


class Distributed(Section):
    """Several processes that train together."""

    backend: Text | None = key("In BasicSR's own loop: nccl or gloo; ours chooses by device.")
    port: int | None = key("The rendezvous port under Slurm.", ge=1, lt=2**16)
    timeout: Positive = key("Seconds that a process waits for the other ranks.", TIMEOUT)


class OptionsFile(Section):
    """An options file of KTDN for BasicSR, for training or testing."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Network]
    MORE = "^network_"

    name: str = key(
        "The run's name, and its folder's: experiments/NAME, results/NAME.",
        ...,
        pattern=FOLDER_NAME,
        wanted="the name of a folder: no slashes, no leading dot, at most 150 characters",
    )
    model_type: Text = key("The training stage: KTDNModel, KTDNTeacherModel, SRModel, ...", ...)
    scale: int = key("Output size relative to the input; 1 for dehazing.", 1, ge=1, le=64)
    num_gpu: Literal["auto"] | Annotated[int, Field(ge=0, le=1024)] = key(
        "Number of GPUs; 0 uses the CPU, auto all GPUs there are.", "auto"
    )
    manual_seed: int | None = key(
        "Random seed; default: a different one for each run.", ge=0, lt=2**32 - 10_000
    )
    find_unused_parameters: bool = key(
        "For distributed training of networks with unused weights.", False
    )
    datasets: Annotated[dict[str, Dataset], BeforeValidator(_without_empty)] = key(
        "Images by phase: train, val, val_2, test, ...", ...
    )
    network_g: Network = key("The network that is trained or tested.", ...)
    network_t: Network | None = key("The teacher; default: the same as network_g.")
    path: Paths = key("Checkpoints to load, and folders to write to.", Paths)
    train: Train | None = key("How to train; not needed for tests.")
    val: Val | None = key("When and how to validate.")
    logger: Logger = key("What is logged and saved when.", Logger)
    dist_params: Distributed = key("Training in several processes.", Distributed)


def walk(
    values: dict[str, Any], model: str, section: type[Section] = OptionsFile, where: str = ""
) -> Iterator[tuple[str, type[Section], dict[str, Any]]]:
    """Lists the sections that a file has, with their classes and values.

    Args:
        values: The outermost section's values.
        model: The run's ``model_type``.
        section: Its class.
        where: Its place, with a dot behind it.
    """
    yield where, section, values
    for name, field in section.fields(section.kind(values, model)).items():
        inner, value = section_of(field), values.get(name)
        if inner is None or not isinstance(value, dict):
            continue
        kinds = field.annotation, *get_args(field.annotation)
        if any(get_origin(kind) is dict for kind in kinds):  # sections by names of the author's
            for each, content in value.items():
                if isinstance(content, dict):
                    yield from walk(content, model, inner, f"{where}{name}.{each}.")
        else:
            yield from walk(value, model, inner, f"{where}{name}.")


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@functools.cache
def json_schema() -> dict[str, Any]:
    """Returns the JSON schema, for editors."""
    return OptionsFile.model_json_schema(schema_generator=_WithoutTitles)


def json_schema_text() -> str:
    """Returns the JSON schema as the file that ships beside the options files has it."""
    return json.dumps(json_schema(), indent=2) + "\n"
