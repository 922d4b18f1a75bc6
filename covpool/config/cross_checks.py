"""What no single key of params.yaml can tell: values that do not fit each other."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from covpool.config import npu_keys, vocabulary

#: `dataset.source` of the kind `rendered`: what the pictures are drawn by.
RECIPES = "covpool/rendered"

#: What `spd.log_iterative` can resolve beside the norm in float32, and where it would have nothing left to do.
ITERATIVE_RIDGE = (1e-6, 0.3)


def check_together(params, wrong):
    """What no single key can tell."""
    for name in params.devices:
        if name not in params.device_options:
            wrong.append(
                "devices: {!r} has no entry in device_options; there are {}".format(
                    name, ", ".join(params.device_options)
                )
            )
    for name, options in params.device_options.items():
        if options.kind == "npu":
            wrong.extend("device_options.{}.{}: {}".format(name, *each) for each in _wrong_npu(options, params, name))
    _check_dataset(params.dataset, wrong)
    if params.spd.maximum <= params.spd.epsilon:
        wrong.append(f"spd.maximum: wanted more than spd.epsilon ({params.spd.epsilon}), given {params.spd.maximum}")
    if params.spd.method == "iterative" and not ITERATIVE_RIDGE[0] <= params.spd.ridge <= ITERATIVE_RIDGE[1]:
        wrong.append(
            "spd.ridge: the iterative logarithm wanted from {} to {}, given {}".format(
                *ITERATIVE_RIDGE, params.spd.ridge
            )
        )
    if params.train.pretrained_hash and not params.train.pretrained_model:
        wrong.append("train.pretrained_hash: is the hash of train.pretrained_model, which is not given")
    if params.network.pooling == "average" and params.network.vectorise != "full":
        wrong.append("network.vectorise: average pooling has no matrix to vectorise; wanted full, given upper")
    if params.normalise.scheduler and not re.match(r"(tcp|tls)://[^/\s]+:\d+\Z", params.normalise.scheduler):
        wrong.append(
            "normalise.scheduler: wanted tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, or '', given "
            f"{params.normalise.scheduler!r}"
        )
    if params.train.random_crop and not params.normalise.margin:
        wrong.append("train.random_crop: has no room to shift with normalise.margin 0; wanted a margin, or false")
    if params.evaluate.split == "test" and params.dataset.kind == "rendered" and not params.dataset.rendered.test:
        wrong.append("evaluate.split: the drawn data set has no test split; set dataset.rendered.test above 0, or val")


def _wrong_npu(options, params, name):
    """What is wrong with the options of an NPU among each other, and with the run that is to use them."""
    yield from npu_keys.wrong_together(options)
    if name in params.devices and params.train.epoch_size % options.iterations_per_loop:
        yield (
            "iterations_per_loop",
            f"wanted a divisor of train.epoch_size ({params.train.epoch_size}), given {options.iterations_per_loop}",
        )


#: Parts of an address's query that let in whoever has them, as signed addresses of S3, OBS, Azure and others carry.
_SECRET = re.compile(r"sig|token|secret|password|passwd|credential|key|auth", re.IGNORECASE)


def _check_address(dataset, wrong):
    """`dataset.url` and `dataset.endpoint`. Nothing of them is repeated: they may hold what others should not see."""
    try:
        parts, endpoint = urlsplit(dataset.url), urlsplit(dataset.endpoint)
    except ValueError as error:
        wrong.append(f"dataset.url or dataset.endpoint: is no address ({error})")
        return
    if parts.scheme not in ("http", "https", "s3", "obs") or not parts.hostname or not parts.path.strip("/"):
        wrong.append(
            "dataset.url: wanted http(s)://host/file, s3://bucket/object or obs://bucket/object, or a folder "
            "in a bucket, s3://bucket/folder/"
        )
    for key, each in (("url", parts), ("endpoint", endpoint)):
        if "@" in each.netloc or any(_SECRET.search(name) for name, _ in parse_qsl(each.query, True)):
            wrong.append(
                f"dataset.{key}: holds a password or key; this file is shown and committed. docs/data.md says "
                "where they belong"
            )
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
        wrong.append(
            "dataset.source: wanted the path of a folder or file, which DVC can watch; an address belongs "
            "into dataset.url"
        )
    if dataset.url:
        _check_address(dataset, wrong)
    elif dataset.endpoint or dataset.revision:
        wrong.append("dataset.endpoint and dataset.revision: belong to dataset.url, which is not given")
    if dataset.kind == "rendered":
        if dataset.url or dataset.sha256:
            wrong.append(
                "dataset.url and dataset.sha256: kind rendered draws its pictures; name the kind of yours in "
                "dataset.kind"
            )
        if dataset.source != RECIPES:
            wrong.append(
                f"dataset.source: kind rendered draws its pictures and wanted {RECIPES}, given {dataset.source!r}; name the kind of "
                "your pictures in dataset.kind"
            )
        for name in dataset.classes:
            if vocabulary.meaning(name) not in vocabulary.CANONICAL:
                wrong.append(
                    "dataset.classes: {!r} can't be drawn; kind rendered draws {}".format(
                        name, ", ".join(vocabulary.CANONICAL)
                    )
                )
    elif dataset.url and dataset.source != RECIPES:
        wrong.append(
            f"dataset.source: wanted {RECIPES}, as dataset.url says where the pictures are, given {dataset.source!r}"
        )
    elif not dataset.url and Path(dataset.source) == Path(RECIPES):
        wrong.append(
            f"dataset.source: kind {dataset.kind} wanted the path of your pictures, given {dataset.source!r}, which holds none"
        )
    if dataset.split.val + dataset.split.test >= 1:
        wrong.append(
            f"dataset.split: val and test leave nothing to train on; wanted a sum below 1, given {dataset.split.val + dataset.split.test:g}"
        )
