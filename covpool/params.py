"""A typed, validated view of `params.yaml`.

Every key is listed here with what it may be; there are no hidden defaults, so `params.yaml` tells the whole story.
All that is wrong is reported at once, each by its key, with what was given and what is allowed. The module needs
PyYAML only, because both interpreters read the parameters and an Ascend host's has little else.
"""

import dataclasses
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple, Union
from urllib.parse import parse_qsl, urlsplit

import yaml

from covpool import classes, npu_parameters

PARAMS_FILE = Path("params.yaml")


class ParamsError(ValueError):
    """One or more keys or values of the parameters are wrong; the message has a line for each."""


class _Wrong(ValueError):
    """A value that its rule does not allow; the text says what would be."""


class _WrongKeys(_Wrong):
    """A value that is a table of keys: [(key, text), ...] tells what is wrong below it."""

    def __init__(self, keys):
        super().__init__()
        self.keys = keys


def _rule(check):
    return dataclasses.field(metadata={"check": check})


def _whole(low, high=None):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            raise _Wrong("a whole number " + _bounds(low, high, True, True))
        return value

    return _rule(check)


def _number(low, high=None, above=False, below=False):
    """A number from `low` to `high`; `above` and `below` leave the end itself out."""

    def check(value):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _Wrong("a number " + _bounds(low, high, not above, not below))
        inside = (value > low if above else value >= low) and (
            high is None or (value < high if below else value <= high)
        )
        if not inside or value != value or value in (float("inf"), float("-inf")):
            raise _Wrong("a number " + _bounds(low, high, not above, not below))
        return float(value)

    return _rule(check)


def _bounds(low, high, closed_low, closed_high):
    text = ("from {}" if closed_low else "above {}").format(low)
    return text if high is None else text + (" to {}" if closed_high else " and below {}").format(high)


def _choice(*names):
    def check(value):
        if value not in names or isinstance(value, bool):
            raise _Wrong("one of " + ", ".join(name or "''" for name in names))
        return value

    return _rule(check)


def _flag():
    def check(value):
        if not isinstance(value, bool):
            raise _Wrong("true or false")
        return value

    return _rule(check)


def _text(empty=True):
    def check(value):
        if not isinstance(value, str) or not (empty or value.strip()):
            raise _Wrong("text" if empty else "text that is not empty")
        return value

    return _rule(check)


_HASH = re.compile(r"[0-9a-f]{64}\Z")


def _hash():
    def check(value):
        if not isinstance(value, str) or not (value == "" or _HASH.match(value)):
            raise _Wrong("64 digits of 0-9a-f, or nothing")
        return value

    return _rule(check)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


def _names():
    def check(value):
        good = isinstance(value, list) and all(isinstance(item, str) and _NAME.match(item) for item in value)
        if not good or not value or len({item.casefold() for item in value}) < len(value):
            raise _Wrong("a list of 1 or more different names (letters, digits, _ and -)")
        return tuple(value)

    return _rule(check)


def _class_names():
    def check(value):
        good = isinstance(value, list) and len(value) >= 2
        if not good or len(set(map(str, value))) < len(value):
            raise _Wrong("a list of 2 or more different class names")
        faults = [fault for fault in map(classes.name_fault, value) if fault]
        if faults:
            raise _Wrong("a list of 2 or more different class names, but {}".format("; ".join(faults)))
        if classes.same_classes(value):
            raise _Wrong(
                "a list of 2 or more different class names, but {!r} and {!r} mean the same".format(
                    *classes.same_classes(value)
                )
            )
        return tuple(map(classes.normal, value))

    return _rule(check)


def _pattern():
    def check(value):
        try:
            if isinstance(value, str) and re.compile(value).groups <= 1:
                return value
        except re.error:
            pass
        raise _Wrong("a regular expression with at most one group, or nothing")

    return _rule(check)


def _section(kind):
    return dataclasses.field(metadata={"section": kind})


def _schedule():
    def check(value):
        if isinstance(value, str):
            if value in NAMED_SCHEDULES:
                return NAMED_SCHEDULES[value]
        elif isinstance(value, (list, tuple)) and value:
            try:
                return check_schedule(value)
            except ValueError:
                pass
        raise _Wrong(
            "a list of [first epoch, rate] pairs, the first epochs rising from 0 and the rates above 0, or one of "
            + ", ".join(NAMED_SCHEDULES)
        )

    return _rule(check)


def check_schedule(pairs):
    """`((first epoch, rate), ...)` of a list of pairs, or ValueError where it is none."""
    found = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError("not a pair: {!r}".format(pair))
        epoch, rate = pair
        if any(isinstance(item, bool) or not isinstance(item, (int, float)) for item in pair) or int(epoch) != epoch:
            raise ValueError("not an epoch and a rate: {!r}".format(pair))
        if not 0 < rate < float("inf"):
            raise ValueError("a rate must be above 0, given {!r}".format(rate))
        if (not found and epoch != 0) or (found and epoch <= found[-1][0]):
            raise ValueError("first epochs must rise from 0, given {!r}".format(epoch))
        found.append((int(epoch), float(rate)))
    return tuple(found)


#: The original's two schedules (its `learning_rate.txt`s): model 1 and the Ascend port; model 2 of the authors.
NAMED_SCHEDULES = {
    "model1": ((0, 0.005), (80, 0.002), (150, 0.001), (250, 0.0005), (350, 0.0001), (1000, 0.00001)),
    "model2": ((0, 0.1), (120, 0.01), (240, 0.001), (500, 0.0001), (1000, 0.00001)),
}


@dataclass(frozen=True)
class Rendered:
    train: int = _whole(1)
    val: int = _whole(1)
    test: int = _whole(0)
    pictures: int = _whole(1)
    image_size: int = _whole(64, 2048)
    seed: int = _whole(0, 2**31 - 1)


@dataclass(frozen=True)
class Split:
    val: float = _number(0, 1, above=True, below=True)
    test: float = _number(0, 1, below=True)
    seed: int = _whole(0, 2**31 - 1)
    subject: str = _pattern()


@dataclass(frozen=True)
class Limits:
    max_archive_bytes: int = _whole(1)
    max_unpacked_bytes: int = _whole(1)
    max_file_bytes: int = _whole(1)
    max_files: int = _whole(1)
    max_ratio: float = _number(1)


@dataclass(frozen=True)
class Dataset:
    kind: str = _choice("rendered", "folder", "sfew_100", "sfew", "rafdb", "fer2013")
    source: str = _text(empty=False)
    url: str = _text()
    endpoint: str = _text()
    revision: str = _text()
    sha256: str = _hash()
    classes: Tuple[str, ...] = _class_names()
    split: Split = _section(Split)
    limits: Limits = _section(Limits)
    rendered: Rendered = _section(Rendered)


@dataclass(frozen=True)
class Validate:
    max_bad_fraction: float = _number(0, 1)
    min_images_per_class: int = _whole(0)
    duplicates: str = _choice("report", "drop_from_train", "fail")
    near_distance: int = _whole(0, 24)


@dataclass(frozen=True)
class Normalise:
    detector: str = _choice("mtcnn", "yuface", "none")
    size: int = _whole(48, 512)
    margin: int = _whole(0, 128)
    min_score: float = _number(0, 1)
    fallback: str = _choice("center", "drop", "fail")
    scheduler: str = _text()


@dataclass(frozen=True)
class Network:
    model_def: str = _choice("covpoolnet", "covpoolnet2")
    pooling: str = _choice("covariance", "gaussian", "average")
    embedding_size: int = _whole(1, 65536)
    vectorise: str = _choice("full", "upper")
    normalisation: str = _choice("per_image", "none")
    batch_norm_decay: float = _number(0, 1, below=True)


@dataclass(frozen=True)
class Spd:
    method: str = _choice("eigh", "iterative")
    ridge: float = _number(0, 1)
    epsilon: float = _number(0, 1, above=True)
    maximum: float = _number(1, 1e12)


@dataclass(frozen=True)
class Adam:
    beta1: float = _number(0, 1, below=True)
    beta2: float = _number(0, 1, below=True)
    epsilon: float = _number(0, above=True)


@dataclass(frozen=True)
class Adadelta:
    rho: float = _number(0, 1, below=True)
    epsilon: float = _number(0, above=True)


@dataclass(frozen=True)
class Adagrad:
    initial_accumulator: float = _number(0, above=True)


@dataclass(frozen=True)
class RmsProp:
    decay: float = _number(0, 1, below=True)
    momentum: float = _number(0, 1, below=True)
    epsilon: float = _number(0, above=True)


@dataclass(frozen=True)
class Mom:
    momentum: float = _number(0, 1, below=True)
    nesterov: bool = _flag()


@dataclass(frozen=True)
class Train:
    epochs: int = _whole(1)
    epoch_size: int = _whole(1)
    batch_size: int = _whole(2)
    optimizer: str = _choice("ADAGRAD", "ADADELTA", "ADAM", "RMSPROP", "MOM")
    learning_rate: float = _number(-1e9, 1e9)
    schedule: Tuple[Tuple[int, float], ...] = _schedule()
    learning_rate_decay_epochs: int = _whole(1)
    learning_rate_decay_factor: float = _number(0, 1e3, above=True)
    scale_learning_rate: str = _choice("none", "linear", "sqrt")
    weight_decay: float = _number(0)
    center_loss_factor: float = _number(0)
    center_loss_alfa: float = _number(0, 1)
    keep_probability: float = _number(0, 1, above=True)
    moving_average_decay: float = _number(0, 1, below=True)
    class_weights: str = _choice("none", "balanced")
    random_crop: bool = _flag()
    random_flip: bool = _flag()
    random_rotate: bool = _flag()
    rotation_degrees: float = _number(0, 180)
    seed: int = _whole(0, 2**31 - 1)
    nrof_preprocess_threads: int = _whole(1, 1024)
    pretrained_model: str = _text()
    pretrained_hash: str = _hash()
    log_histograms: bool = _flag()
    adam: Adam = _section(Adam)
    adadelta: Adadelta = _section(Adadelta)
    adagrad: Adagrad = _section(Adagrad)
    rmsprop: RmsProp = _section(RmsProp)
    mom: Mom = _section(Mom)


@dataclass(frozen=True)
class Evaluate:
    split: str = _choice("train", "val", "test")
    checkpoint: str = _choice("best", "last")
    batch_size: int = _whole(1)


@dataclass(frozen=True)
class Report:
    loss_tolerance: float = _number(0, 10)


@dataclass(frozen=True)
class CpuOptions:
    kind: str = _choice("cpu")
    build: str = _choice("default", "intel", "stock", "tf2")
    python: str = _text()
    workers: int = _whole(1, 1024)
    threads: int = _whole(0, 4096)


@dataclass(frozen=True)
class GpuOptions:
    kind: str = _choice("gpu")
    build: str = _choice("default", "intel", "stock", "tf2")
    python: str = _text()
    workers: int = _whole(1, 1024)
    visible_device: int = _whole(0, 1024)
    gpu_memory_fraction: float = _number(0, 1, above=True)


def _adapter_keys():
    def check(value):
        if not isinstance(value, dict):
            raise _Wrong("keys of the adapter's parameter_map with their values, or {}")
        wrong = npu_parameters.wrong_keys(value)
        if wrong:
            raise _WrongKeys(wrong)
        return dict(value)

    return _rule(check)


@dataclass(frozen=True)
class NpuOptions:
    kind: str = _choice("npu")
    build: str = _choice("default", "intel", "stock", "tf2")
    python: str = _text()
    workers: int = _whole(1, 1024)
    visible_device: int = _whole(0, 1024)
    precision_mode: str = _choice("", *npu_parameters.PRECISION_MODES)
    loss_scaling: str = _choice("off", "dynamic", "fixed")
    loss_scale: float = _number(1, 2.0**64)
    iterations_per_loop: int = _whole(1)
    mix_compile_mode: bool = _flag()
    deterministic: bool = _flag()
    fusion_switch_file: str = _text()
    op_cache: str = _text()
    profiling: str = _text()
    dump: str = _text()
    parameter_map: Dict[str, Union[bool, int, str]] = _adapter_keys()


#: `dataset.source` of the kind `rendered`: what the pictures are drawn by.
RECIPES = "covpool/datasets/rendered"

#: What `spd.log_iterative` can resolve beside the norm in float32, and where it would have nothing left to do.
ITERATIVE_RIDGE = (1e-6, 0.3)

DEVICE_KINDS = {"cpu": CpuOptions, "gpu": GpuOptions, "npu": NpuOptions}


@dataclass(frozen=True)
class Params:
    """All of `params.yaml`."""

    devices: Tuple[str, ...] = _names()
    device_options: Dict[str, Union[CpuOptions, GpuOptions, NpuOptions]] = dataclasses.field(metadata={"devices": True})
    dataset: Dataset = _section(Dataset)
    validate: Validate = _section(Validate)
    normalise: Normalise = _section(Normalise)
    network: Network = _section(Network)
    spd: Spd = _section(Spd)
    train: Train = _section(Train)
    evaluate: Evaluate = _section(Evaluate)
    report: Report = _section(Report)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars, which is how DVC reads the file: 1e-4 is a number, `no` and `off` are text."""


_Loader.yaml_implicit_resolvers = {}
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"
for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*\Z", "-+0123456789"),
    ("float", _FLOAT + r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z", "-+.0123456789"),
):
    _Loader.add_implicit_resolver("tag:yaml.org,2002:" + _tag, re.compile(_pattern), list(_first))
# YAML 1.1 would read 010 as eight.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value.replace("_", "")))


def read_yaml(path):
    """The content of a YAML file; ParamsError where there is none."""
    try:
        with open(str(path), encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_Loader)
    except FileNotFoundError:
        raise ParamsError("{} is missing: run from the project's root.".format(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError("{} is no YAML: {}".format(path, error)) from None


def load_params(path=PARAMS_FILE):
    """Read and validate the parameters.

    Returns a `Params`. Raises ParamsError that names every wrong key and value, and what is allowed there.
    """
    return parse_params(read_yaml(path), str(path))


def parse_params(content, origin="params"):
    """`Params` from the content of a params.yaml; see `load_params`."""
    wrong = []
    params = _build(Params, content, "", wrong)
    _raise(origin, wrong)
    _check_together(params, wrong)
    _raise(origin, wrong)
    return params


def build_section(name, content, origin):
    """One section by its name (`network`, `spd`, ...) from a record that holds it as plain values."""
    kind = next(field.metadata["section"] for field in dataclasses.fields(Params) if field.name == name)
    wrong = []
    section = _build(kind, content, name + ".", wrong)
    _raise(origin, wrong)
    return section


def _raise(origin, wrong):
    if wrong:
        count = "1 thing is wrong" if len(wrong) == 1 else "{} things are wrong".format(len(wrong))
        raise ParamsError("{}: {}\n{}".format(origin, count, "\n".join("  " + line for line in wrong)))


def _build(kind, content, prefix, wrong):
    if not isinstance(content, dict):
        wrong.append("{}: wanted keys {}, given {!r}".format(prefix.rstrip(".") or "the file", _keys(kind), content))
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1)
            hint = "did you mean {}?".format(prefix + close[0]) if close else "wanted one of " + _keys(kind)
            wrong.append("{}{}: no such key; {}".format(prefix, key, hint))
    values = {}
    for name, field in fields.items():
        if name not in content:
            wrong.append("{}{}: is missing".format(prefix, name))
        elif "section" in field.metadata:
            values[name] = _build(field.metadata["section"], content[name], prefix + name + ".", wrong)
        elif "devices" in field.metadata:
            values[name] = _build_devices(content[name], prefix + name, wrong)
        else:
            try:
                values[name] = field.metadata["check"](content[name])
            except _WrongKeys as below:
                wrong.extend("{}{}.{}: {}".format(prefix, name, key, text) for key, text in below.keys)
            except _Wrong as allowed:
                wrong.append("{}{}: wanted {}, given {!r}".format(prefix, name, allowed, content[name]))
    return kind(**values) if len(values) == len(fields) else None


def _keys(kind):
    return ", ".join(field.name for field in dataclasses.fields(kind))


def _build_devices(content, prefix, wrong):
    if not isinstance(content, dict) or not content:
        wrong.append("{}: wanted a name a device, each with its options, given {!r}".format(prefix, content))
        return {}
    built = {}
    for name, options in content.items():
        key = "{}.{}".format(prefix, name)
        kind = options.get("kind") if isinstance(options, dict) else None
        if not isinstance(name, str) or not _NAME.match(name):
            wrong.append("{}: a name is letters, digits, _ and -".format(key))
        elif kind not in DEVICE_KINDS:
            wrong.append("{}.kind: wanted one of {}, given {!r}".format(key, ", ".join(DEVICE_KINDS), kind))
        else:
            built[name] = _build(DEVICE_KINDS[kind], options, key + ".", wrong)
    return built


def _check_together(params, wrong):
    """What no single key can tell."""
    for name in params.devices:
        if name not in params.device_options:
            wrong.append("devices: {!r} has no entry in device_options; there are {}".format(
                name, ", ".join(params.device_options)))  # fmt: skip
    for name, options in params.device_options.items():
        if options.kind == "npu":
            wrong.extend("device_options.{}.{}: {}".format(name, *each) for each in _wrong_npu(options, params, name))
    _check_dataset(params.dataset, wrong)
    if params.spd.maximum <= params.spd.epsilon:
        wrong.append("spd.maximum: wanted more than spd.epsilon ({}), given {}".format(
            params.spd.epsilon, params.spd.maximum))  # fmt: skip
    if params.spd.method == "iterative" and not ITERATIVE_RIDGE[0] <= params.spd.ridge <= ITERATIVE_RIDGE[1]:
        wrong.append("spd.ridge: the iterative logarithm wanted from {} to {}, given {}".format(
            *ITERATIVE_RIDGE, params.spd.ridge))  # fmt: skip
    if params.train.pretrained_hash and not params.train.pretrained_model:
        wrong.append("train.pretrained_hash: is the hash of train.pretrained_model, which is not given")
    if params.network.pooling == "average" and params.network.vectorise != "full":
        wrong.append("network.vectorise: average pooling has no matrix to vectorise; wanted full, given upper")
    if params.normalise.scheduler and not re.match(r"(tcp|tls)://[^/\s]+:\d+\Z", params.normalise.scheduler):
        wrong.append("normalise.scheduler: wanted tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, or '', given "
                     "{!r}".format(params.normalise.scheduler))  # fmt: skip
    if params.train.random_crop and not params.normalise.margin:
        wrong.append("train.random_crop: has no room to shift with normalise.margin 0; wanted a margin, or false")
    if params.evaluate.split == "test" and params.dataset.kind == "rendered" and not params.dataset.rendered.test:
        wrong.append("evaluate.split: the drawn data set has no test split; set dataset.rendered.test above 0, or val")


def _wrong_npu(options, params, name):
    """What is wrong with the options of an NPU among each other, and with the run that is to use them."""
    yield from npu_parameters.wrong_together(options)
    if name in params.devices and params.train.epoch_size % options.iterations_per_loop:
        yield "iterations_per_loop", "wanted a divisor of train.epoch_size ({}), given {}".format(
            params.train.epoch_size, options.iterations_per_loop)  # fmt: skip


#: Parts of an address's query that let in whoever has them, as signed addresses of S3, OBS, Azure and others carry.
_SECRET = re.compile(r"sig|token|secret|password|passwd|credential|key|auth", re.IGNORECASE)


def _check_address(dataset, wrong):
    """`dataset.url` and `dataset.endpoint`. Nothing of them is repeated: they may hold what others should not see."""
    try:
        parts, endpoint = urlsplit(dataset.url), urlsplit(dataset.endpoint)
    except ValueError as error:
        wrong.append("dataset.url or dataset.endpoint: is no address ({})".format(error))
        return
    if parts.scheme not in ("http", "https", "s3", "obs") or not parts.hostname or not parts.path.strip("/"):
        wrong.append("dataset.url: wanted http(s)://host/file, s3://bucket/object or obs://bucket/object, or a folder "
                     "in a bucket, s3://bucket/folder/")  # fmt: skip
    for key, each in (("url", parts), ("endpoint", endpoint)):
        if "@" in each.netloc or any(_SECRET.search(name) for name, _ in parse_qsl(each.query, True)):
            wrong.append("dataset.{}: holds a password or key; this file is shown and committed. docs/data.md says "
                         "where they belong".format(key))  # fmt: skip
    if parts.scheme in ("s3", "obs") and (parts.query or parts.fragment):
        wrong.append("dataset.url: a bucket's address has no ? and no #; write %3F and %23 in names")
    if dataset.endpoint and (endpoint.scheme not in ("http", "https") or not endpoint.hostname):
        wrong.append("dataset.endpoint: wanted http(s)://host, the address of the store")
    if bool(dataset.endpoint) != (parts.scheme == "obs") and parts.scheme != "s3":
        wrong.append("dataset.endpoint: is wanted for obs:// addresses, allowed for s3://, and for no others")
    if dataset.sha256 and parts.path.endswith("/"):
        wrong.append("dataset.sha256: a folder has no sum; use dataset.revision")


def _check_dataset(dataset, wrong):
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", dataset.source):
        wrong.append("dataset.source: wanted the path of a folder or file, which DVC can watch; an address belongs "
                     "into dataset.url")  # fmt: skip
    if dataset.url:
        _check_address(dataset, wrong)
    elif dataset.endpoint or dataset.revision:
        wrong.append("dataset.endpoint and dataset.revision: belong to dataset.url, which is not given")
    if dataset.kind == "rendered":
        if dataset.url or dataset.sha256:
            wrong.append("dataset.url and dataset.sha256: kind rendered draws its pictures; name the kind of yours in "
                         "dataset.kind")  # fmt: skip
        if dataset.source != RECIPES:
            wrong.append("dataset.source: kind rendered draws its pictures and wanted {}, given {!r}; name the kind of "
                         "your pictures in dataset.kind".format(RECIPES, dataset.source))  # fmt: skip
        for name in dataset.classes:
            if classes.meaning(name) not in classes.CANONICAL:
                wrong.append("dataset.classes: {!r} can't be drawn; kind rendered draws {}".format(
                    name, ", ".join(classes.CANONICAL)))  # fmt: skip
    elif dataset.url and dataset.source != RECIPES:
        wrong.append("dataset.source: wanted {}, as dataset.url says where the pictures are, given {!r}".format(
            RECIPES, dataset.source))  # fmt: skip
    elif not dataset.url and Path(dataset.source) == Path(RECIPES):
        wrong.append("dataset.source: kind {} wanted the path of your pictures, given {!r}, which holds none".format(
            dataset.kind, dataset.source))  # fmt: skip
    if dataset.split.val + dataset.split.test >= 1:
        wrong.append("dataset.split: val and test leave nothing to train on; wanted a sum below 1, given {:g}".format(
            dataset.split.val + dataset.split.test))  # fmt: skip


def as_plain(value):
    """Parameters, or a section of them, as dictionaries, lists and plain values, for a JSON record."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value


def read_schedule_file(path):
    """The pairs of a schedule file of the original: `epoch: rate` a line, `#` starts a comment.

    Raises ParamsError naming the line that is neither.
    """
    pairs: List[List[float]] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        try:
            epoch, rate = text.split(":")
            pairs.append([int(epoch), float(rate)])
        except ValueError:
            raise ParamsError("{}:{}: wanted `epoch: rate`, given {!r}".format(path, number, line)) from None
    try:
        return check_schedule(pairs)
    except ValueError as error:
        raise ParamsError("{}: {}".format(path, error)) from None
