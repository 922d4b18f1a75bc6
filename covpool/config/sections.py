"""The sections of params.yaml, a frozen dataclass each: every key, with the rule for its value.

There are no hidden defaults, so `params.yaml` tells the whole story.
"""

import dataclasses
from dataclasses import dataclass
from typing import Dict, Tuple, Union

from covpool.config import npu_keys
from covpool.config.rules import (
    adapter_keys,
    choice,
    class_names,
    flag,
    names,
    number,
    pattern,
    schedule,
    section,
    sha256,
    text,
    whole,
)


@dataclass(frozen=True)
class Rendered:
    train: int = whole(1)
    val: int = whole(1)
    test: int = whole(0)
    pictures: int = whole(1)
    image_size: int = whole(64, 2048)
    seed: int = whole(0, 2**31 - 1)


@dataclass(frozen=True)
class Split:
    val: float = number(0, 1, above=True, below=True)
    test: float = number(0, 1, below=True)
    seed: int = whole(0, 2**31 - 1)
    subject: str = pattern()


@dataclass(frozen=True)
class Limits:
    max_archive_bytes: int = whole(1)
    max_unpacked_bytes: int = whole(1)
    max_file_bytes: int = whole(1)
    max_files: int = whole(1)
    max_ratio: float = number(1)


@dataclass(frozen=True)
class Dataset:
    kind: str = choice("rendered", "folder", "sfew_100", "sfew", "rafdb", "fer2013")
    source: str = text(empty=False)
    url: str = text()
    endpoint: str = text()
    revision: str = text()
    sha256: str = sha256()
    classes: Tuple[str, ...] = class_names()
    split: Split = section(Split)
    limits: Limits = section(Limits)
    rendered: Rendered = section(Rendered)


@dataclass(frozen=True)
class Validate:
    max_bad_fraction: float = number(0, 1)
    min_images_per_class: int = whole(0)
    duplicates: str = choice("report", "drop_from_train", "fail")
    near_distance: int = whole(0, 24)


@dataclass(frozen=True)
class Normalise:
    detector: str = choice("mtcnn", "yuface", "none")
    size: int = whole(48, 512)
    margin: int = whole(0, 128)
    min_score: float = number(0, 1)
    fallback: str = choice("center", "drop", "fail")
    scheduler: str = text()


@dataclass(frozen=True)
class Network:
    model_def: str = choice("covpoolnet", "covpoolnet2")
    pooling: str = choice("covariance", "gaussian", "average")
    embedding_size: int = whole(1, 65536)
    vectorise: str = choice("full", "upper")
    normalisation: str = choice("per_image", "none")
    batch_norm_decay: float = number(0, 1, below=True)


@dataclass(frozen=True)
class Spd:
    method: str = choice("eigh", "iterative")
    ridge: float = number(0, 1)
    epsilon: float = number(0, 1, above=True)
    maximum: float = number(1, 1e12)


@dataclass(frozen=True)
class Adam:
    beta1: float = number(0, 1, below=True)
    beta2: float = number(0, 1, below=True)
    epsilon: float = number(0, above=True)


@dataclass(frozen=True)
class Adadelta:
    rho: float = number(0, 1, below=True)
    epsilon: float = number(0, above=True)


@dataclass(frozen=True)
class Adagrad:
    initial_accumulator: float = number(0, above=True)


@dataclass(frozen=True)
class RmsProp:
    decay: float = number(0, 1, below=True)
    momentum: float = number(0, 1, below=True)
    epsilon: float = number(0, above=True)


@dataclass(frozen=True)
class Mom:
    momentum: float = number(0, 1, below=True)
    nesterov: bool = flag()


@dataclass(frozen=True)
class Train:
    epochs: int = whole(1)
    epoch_size: int = whole(1)
    batch_size: int = whole(2)
    optimizer: str = choice("ADAGRAD", "ADADELTA", "ADAM", "RMSPROP", "MOM")
    learning_rate: float = number(-1e9, 1e9)
    schedule: Union[str, Tuple[Tuple[int, float], ...]] = schedule()
    learning_rate_decay_epochs: int = whole(1)
    learning_rate_decay_factor: float = number(0, 1e3, above=True)
    scale_learning_rate: str = choice("none", "linear", "sqrt")
    weight_decay: float = number(0)
    center_loss_factor: float = number(0)
    center_loss_alfa: float = number(0, 1)
    keep_probability: float = number(0, 1, above=True)
    moving_average_decay: float = number(0, 1, below=True)
    class_weights: str = choice("none", "balanced")
    random_crop: bool = flag()
    random_flip: bool = flag()
    random_rotate: bool = flag()
    rotation_degrees: float = number(0, 180)
    seed: int = whole(0, 2**31 - 1)
    nrof_preprocess_threads: int = whole(1, 1024)
    pretrained_model: str = text()
    pretrained_hash: str = sha256()
    log_histograms: bool = flag()
    adam: Adam = section(Adam)
    adadelta: Adadelta = section(Adadelta)
    adagrad: Adagrad = section(Adagrad)
    rmsprop: RmsProp = section(RmsProp)
    mom: Mom = section(Mom)


@dataclass(frozen=True)
class Evaluate:
    split: str = choice("train", "val", "test")
    checkpoint: str = choice("best", "last")
    batch_size: int = whole(1)


@dataclass(frozen=True)
class Report:
    loss_tolerance: float = number(0, 10)


@dataclass(frozen=True)
class CpuOptions:
    kind: str = choice("cpu")
    build: str = choice("default", "intel", "stock", "tf2")
    python: str = text()
    workers: int = whole(1, 1024)
    threads: int = whole(0, 4096)


@dataclass(frozen=True)
class GpuOptions:
    kind: str = choice("gpu")
    build: str = choice("default", "intel", "stock", "tf2")
    python: str = text()
    workers: int = whole(1, 1024)
    visible_device: int = whole(0, 1024)
    gpu_memory_fraction: float = number(0, 1, above=True)


@dataclass(frozen=True)
class NpuOptions:
    kind: str = choice("npu")
    build: str = choice("default", "intel", "stock", "tf2")
    python: str = text()
    workers: int = whole(1, 1024)
    visible_device: int = whole(0, 1024)
    precision_mode: str = choice("", *npu_keys.PRECISION_MODES)
    loss_scaling: str = choice("off", "dynamic", "fixed")
    loss_scale: float = number(1, 2.0**64)
    iterations_per_loop: int = whole(1)
    mix_compile_mode: bool = flag()
    deterministic: bool = flag()
    fusion_switch_file: str = text()
    op_cache: str = text()
    profiling: str = text()
    dump: str = text()
    parameter_map: Dict[str, Union[bool, int, str]] = adapter_keys()


DEVICE_KINDS = {"cpu": CpuOptions, "gpu": GpuOptions, "npu": NpuOptions}


@dataclass(frozen=True)
class Params:
    """All of `params.yaml`."""

    devices: Tuple[str, ...] = names()
    device_options: Dict[str, Union[CpuOptions, GpuOptions, NpuOptions]] = dataclasses.field(metadata={"devices": True})
    dataset: Dataset = section(Dataset)
    validate: Validate = section(Validate)
    normalise: Normalise = section(Normalise)
    network: Network = section(Network)
    spd: Spd = section(Spd)
    train: Train = section(Train)
    evaluate: Evaluate = section(Evaluate)
    report: Report = section(Report)
