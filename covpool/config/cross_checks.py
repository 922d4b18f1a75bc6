"""What no single key of params.yaml can show: values that do not fit each other."""

import re
from pathlib import Path
from typing import List
from urllib.parse import parse_qsl, urlsplit

from covpool.config import npu_keys, vocabulary
from covpool.config.sections import Dataset, Params

#: `dataset.source` of the kind `rendered`: the code that draws the pictures.
RECIPES = "covpool/rendered"

#: Bounds of spd.ridge for the iterative logarithm: what it can resolve beside the norm in float32, and where it would
#: have nothing left to do.
ITERATIVE_RIDGE = (1e-6, 0.3)


def check_together(params: Params, wrong: List[str]) -> None:
    """Add a line to `wrong` for each set of values that do not fit each other."""
    known = ", ".join(params.device_options)
    for name in params.devices:
        if name not in params.device_options:
            wrong.append(f"devices: expected names from device_options ({known}), got {name!r}")
    for name, options in params.device_options.items():
        if options.kind == "npu":
            wrong.extend(f"device_options.{name}.{key}: {text}" for key, text in _wrong_npu(options, params, name))
    _check_dataset(params.dataset, wrong)
    _check_network(params, wrong)
    if params.train.pretrained_hash and not params.train.pretrained_model:
        wrong.append("train.pretrained_hash: expected '' without train.pretrained_model, whose hash it is")
    if params.normalise.scheduler and not re.match(r"(tcp|tls)://[^/\s]+:\d+\Z", params.normalise.scheduler):
        wrong.append(
            "normalise.scheduler: expected tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, or '', got "
            f"{params.normalise.scheduler!r}"
        )
    if params.train.random_crop and not params.normalise.margin:
        wrong.append(
            "train.random_crop: expected false, because normalise.margin is 0 and there is no room to shift, got true"
        )
    if params.evaluate.splits == ("test",) and params.dataset.kind == "rendered" and not params.dataset.rendered.test:
        wrong.append(
            "evaluate.splits: the drawn data set has no test split; set dataset.rendered.test above 0, or add val"
        )


def _check_network(params, wrong):
    spd = params.spd
    if spd.maximum <= spd.epsilon:
        wrong.append(f"spd.maximum: expected more than spd.epsilon ({spd.epsilon}), got {spd.maximum}")
    low, high = ITERATIVE_RIDGE
    if spd.method == "iterative" and not low <= spd.ridge <= high:
        wrong.append(f"spd.ridge: expected {low} to {high} for the iterative logarithm, got {spd.ridge}")
    if params.network.pooling == "average" and params.network.vectorise != "full":
        wrong.append("network.vectorise: expected full with average pooling, which has no matrix, got upper")


def _wrong_npu(options, params, name):
    """What is wrong with the options of an NPU among each other, and with the run that uses them."""
    yield from npu_keys.wrong_together(options)
    if name in params.devices and params.train.epoch_size % options.iterations_per_loop:
        yield (
            "iterations_per_loop",
            f"expected a divisor of train.epoch_size ({params.train.epoch_size}), got {options.iterations_per_loop}",
        )


#: Names of parameters in an address that give access to whoever has it, as signed addresses of S3, OBS, Azure and
#: others carry: parts of names, and whole names that are too short to be looked for inside others.
_SECRET = re.compile(r"sig|token|secret|password|passwd|passphrase|credential|key|auth|jwt", re.IGNORECASE)
_SECRET_NAMES = ("pass", "pwd", "pw", "sas", "code", "pin", "otp", "session", "sid")


def _has_secret(parts):
    """Whether a split address has a user, or a parameter in its path, query or fragment that gives access."""
    in_path = [piece for segment in parts.path.split("/") for piece in segment.split(";")[1:]]
    pairs = "&".join([parts.query.replace(";", "&"), *in_path, parts.fragment.lstrip("?").replace(";", "&")])
    names = [name for name, _ in parse_qsl(pairs, keep_blank_values=True)]
    return "@" in parts.netloc or any(_SECRET.search(name) or name.lower() in _SECRET_NAMES for name in names)


def _check_address(dataset, wrong):
    """Check `dataset.url` and `dataset.endpoint`. Messages do not repeat them: they may hold a secret."""
    try:
        parts, endpoint = urlsplit(dataset.url), urlsplit(dataset.endpoint)
    except ValueError as error:
        wrong.append(f"dataset.url or dataset.endpoint: is not a valid address ({error})")
        return
    if parts.scheme not in ("http", "https", "s3", "obs") or not parts.hostname or not parts.path.strip("/"):
        wrong.append(
            "dataset.url: expected http(s)://host/file, s3://bucket/object or obs://bucket/object, or a folder "
            "in a bucket, s3://bucket/folder/"
        )
    for key, each in (("url", parts), ("endpoint", endpoint)):
        if _has_secret(each):
            wrong.append(
                f"dataset.{key}: holds a password or key, and params.yaml is shown and committed. docs/data.md says "
                "where to put it"
            )
    if parts.scheme in ("s3", "obs") and (parts.query or parts.fragment):
        wrong.append("dataset.url: expected no ? and # in a bucket's address; write %3F and %23 in names")
    if dataset.endpoint and (endpoint.scheme not in ("http", "https") or not endpoint.hostname):
        wrong.append("dataset.endpoint: expected http(s)://host, the address of the store")
    if parts.scheme == "obs" and not dataset.endpoint:
        wrong.append("dataset.endpoint: expected the address of the store for an obs:// address, got ''")
    elif dataset.endpoint and parts.scheme not in ("s3", "obs"):
        wrong.append("dataset.endpoint: is for obs:// and s3:// addresses only")
    if dataset.sha256 and parts.path.endswith("/"):
        wrong.append("dataset.sha256: a folder has no checksum; use dataset.revision")


def _check_dataset(dataset: Dataset, wrong: List[str]) -> None:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", dataset.source):
        wrong.append(
            "dataset.source: expected the path of a folder or file, which DVC can watch; put an address into "
            "dataset.url"
        )
    if dataset.url:
        _check_address(dataset, wrong)
    elif dataset.endpoint or dataset.revision:
        wrong.append("dataset.endpoint and dataset.revision: expected '' without dataset.url, which they belong to")
    if dataset.kind == "rendered":
        _check_rendered(dataset, wrong)
    elif dataset.url and dataset.source != RECIPES:
        wrong.append(f"dataset.source: expected {RECIPES}, because dataset.url is set, got {dataset.source!r}")
    elif not dataset.url and Path(dataset.source) == Path(RECIPES):
        wrong.append(
            f"dataset.source: expected the path of your pictures for kind {dataset.kind}, got {dataset.source!r}, "
            "which has none"
        )
    rest = dataset.split.val + dataset.split.test
    if rest >= 1:
        wrong.append(f"dataset.split: expected val + test below 1, so that some pictures are for train, got {rest:g}")


def _check_rendered(dataset, wrong):
    yours = "to use pictures of your own, set dataset.kind"
    if dataset.url or dataset.sha256:
        wrong.append(f"dataset.url and dataset.sha256: expected '' for kind rendered; {yours}")
    if dataset.source != RECIPES:
        wrong.append(f"dataset.source: expected {RECIPES} for kind rendered, got {dataset.source!r}; {yours}")
    for name in dataset.classes:
        if vocabulary.meaning(name) not in vocabulary.CANONICAL:
            known = ", ".join(vocabulary.CANONICAL)
            wrong.append(f"dataset.classes: expected expressions that kind rendered can draw ({known}), got {name!r}")
