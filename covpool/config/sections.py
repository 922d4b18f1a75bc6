"""The sections of params.yaml, a frozen dataclass each: every key, with the rule for its value.

There are no hidden defaults, so `params.yaml` tells the whole story.
"""

import dataclasses
from dataclasses import dataclass
from typing import Dict, Tuple, Union

from covpool.config import npu_keys
from covpool.config.rules import (
    build,
    choice,
    choices,
    class_names,
    flag,
    key,
    names,
    number,
    regular_expression,
    schedule,
    section,
    sha256,
    text,
    whole,
)


@dataclass(frozen=True)
class Rendered:
    train: int = key(whole(1))
    val: int = key(whole(1))
    test: int = key(whole(0))
    pictures: int = key(whole(1))
    image_size: int = key(whole(64, 2048))
    seed: int = key(whole(0, 2**31 - 1))


@dataclass(frozen=True)
class Split:
    val: float = key(number(0, 1, above=True, below=True))
    test: float = key(number(0, 1, below=True))
    seed: int = key(whole(0, 2**31 - 1))
    subject: str = key(regular_expression())


@dataclass(frozen=True)
class Limits:
    max_archive_bytes: int = key(whole(1))
    max_unpacked_bytes: int = key(whole(1))
    max_file_bytes: int = key(whole(1))
    max_files: int = key(whole(1))
    max_ratio: float = key(number(1))


@dataclass(frozen=True)
class Dataset:
    kind: str = key(choice("rendered", "folder", "sfew_100", "sfew", "rafdb", "fer2013"))
    source: str = key(text(empty=False))
    url: str = key(text())
    endpoint: str = key(text())
    revision: str = key(text())
    sha256: str = key(sha256())
    classes: Tuple[str, ...] = key(class_names())
    split: Split = section(Split)
    limits: Limits = section(Limits)
    rendered: Rendered = section(Rendered)


@dataclass(frozen=True)
class Validate:
    max_bad_fraction: float = key(number(0, 1))
    min_images_per_class: int = key(whole(0))
    duplicates: str = key(choice("report", "drop_from_train", "fail"))
    near_distance: int = key(whole(0, 24))


@dataclass(frozen=True)
class Normalise:
    detector: str = key(choice("mtcnn", "yuface", "none"))
    size: int = key(whole(48, 512))
    margin: int = key(whole(0, 128))
    min_score: float = key(number(0, 1))
    fallback: str = key(choice("center", "drop", "fail"))
    scheduler: str = key(text())


@dataclass(frozen=True)
class Network:
    model_def: str = key(choice("covpoolnet", "covpoolnet2"))
    pooling: str = key(choice("covariance", "gaussian", "average"))
    embedding_size: int = key(whole(1, 65536))
    vectorise: str = key(choice("full", "upper"))
    normalisation: str = key(choice("per_image", "none"))
    batch_norm_decay: float = key(number(0, 1, below=True))


@dataclass(frozen=True)
class Spd:
    method: str = key(choice("eigh", "iterative"))
    ridge: float = key(number(0, 1))
    epsilon: float = key(number(0, 1, above=True))
    maximum: float = key(number(1, 1e12))


@dataclass(frozen=True)
class Adam:
    beta1: float = key(number(0, 1, below=True))
    beta2: float = key(number(0, 1, below=True))
    epsilon: float = key(number(0, above=True))


@dataclass(frozen=True)
class Adadelta:
    rho: float = key(number(0, 1, below=True))
    epsilon: float = key(number(0, above=True))


@dataclass(frozen=True)
class Adagrad:
    initial_accumulator: float = key(number(0, above=True))


@dataclass(frozen=True)
class RmsProp:
    decay: float = key(number(0, 1, below=True))
    momentum: float = key(number(0, 1, below=True))
    epsilon: float = key(number(0, above=True))


@dataclass(frozen=True)
class Mom:
    momentum: float = key(number(0, 1, below=True))
    nesterov: bool = key(flag())


@dataclass(frozen=True)
class Train:
    epochs: int = key(whole(1))
    epoch_size: int = key(whole(1))
    batch_size: int = key(whole(2))
    optimizer: str = key(choice("ADAGRAD", "ADADELTA", "ADAM", "RMSPROP", "MOM"))
    learning_rate: float = key(number(-1e9, 1e9))
    schedule: Union[str, Tuple[Tuple[int, float], ...]] = key(schedule())
    learning_rate_decay_epochs: int = key(whole(1))
    learning_rate_decay_factor: float = key(number(0, 1e3, above=True))
    scale_learning_rate: str = key(choice("none", "linear", "sqrt"))
    weight_decay: float = key(number(0))
    center_loss_factor: float = key(number(0))
    center_loss_alfa: float = key(number(0, 1))
    keep_probability: float = key(number(0, 1, above=True))
    moving_average_decay: float = key(number(0, 1, below=True))
    class_weights: str = key(choice("none", "balanced"))
    random_crop: bool = key(flag())
    random_flip: bool = key(flag())
    random_rotate: bool = key(flag())
    rotation_degrees: float = key(number(0, 180))
    seed: int = key(whole(0, 2**31 - 1))
    nrof_preprocess_threads: int = key(whole(1, 1024))
    pretrained_model: str = key(text())
    pretrained_hash: str = key(sha256())
    log_histograms: bool = key(flag())
    adam: Adam = section(Adam)
    adadelta: Adadelta = section(Adadelta)
    adagrad: Adagrad = section(Adagrad)
    rmsprop: RmsProp = section(RmsProp)
    mom: Mom = section(Mom)


@dataclass(frozen=True)
class Evaluate:
    splits: Tuple[str, ...] = key(choices("train", "val", "test"))
    checkpoint: str = key(choice("best", "last"))
    batch_size: int = key(whole(1))


@dataclass(frozen=True)
class Export:
    weights: str = key(choice("float32", "float16"))


@dataclass(frozen=True)
class Report:
    loss_tolerance: float = key(number(0, 10))


@dataclass(frozen=True)
class CpuOptions:
    kind: str = key(choice("cpu"))
    build: str = key(build())
    python: str = key(text())
    workers: int = key(whole(1, 1024))
    threads: int = key(whole(0, 4096))


@dataclass(frozen=True)
class GpuOptions:
    kind: str = key(choice("gpu"))
    build: str = key(build())
    python: str = key(text())
    workers: int = key(whole(1, 1024))
    visible_device: int = key(whole(0, 1024))
    gpu_memory_fraction: float = key(number(0, 1, above=True))


@dataclass(frozen=True)
class NpuOptions:
    kind: str = key(choice("npu"))
    build: str = key(build())
    python: str = key(text())
    workers: int = key(whole(1, 1024))
    visible_device: int = key(whole(0, 1024))
    precision_mode: str = key(choice("", *npu_keys.PRECISION_MODES))
    loss_scaling: str = key(choice("off", "dynamic", "fixed"))
    loss_scale: float = key(number(1, 2.0**64))
    iterations_per_loop: int = key(whole(1))
    mix_compile_mode: bool = key(flag())
    deterministic: bool = key(flag())
    fusion_switch_file: str = key(text())
    op_cache: str = key(text())
    profiling: str = key(text())
    dump: str = key(text())
    parameter_map: Dict[str, Union[bool, int, str]] = key(npu_keys.AdapterKeys())


DEVICE_KINDS = {"cpu": CpuOptions, "gpu": GpuOptions, "npu": NpuOptions}


@dataclass(frozen=True)
class Params:
    """All of `params.yaml`."""

    devices: Tuple[str, ...] = key(names())
    device_options: Dict[str, Union[CpuOptions, GpuOptions, NpuOptions]] = dataclasses.field(metadata={"devices": True})
    dataset: Dataset = section(Dataset)
    validate: Validate = section(Validate)
    normalise: Normalise = section(Normalise)
    network: Network = section(Network)
    spd: Spd = section(Spd)
    train: Train = section(Train)
    evaluate: Evaluate = section(Evaluate)
    export: Export = section(Export)
    report: Report = section(Report)
