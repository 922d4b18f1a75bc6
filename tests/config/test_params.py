"""params.yaml's schema: what is refused is named, what is allowed is typed, and YAML is read as DVC reads it."""

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from covpool import config
from covpool.config import yaml_file

GOOD = config.read_yaml("params.yaml")


def changed(key, value):
    content = copy.deepcopy(GOOD)
    *path, last = key.split(".")
    place = content
    for name in path:
        place = place[name]
    place[last] = value
    return content


def refused(content):
    with pytest.raises(config.ParamsError) as caught:
        config.parse_params(content)
    return str(caught.value)


def test_the_shipped_file_is_valid_and_every_key_is_explained():
    assert config.load_params().train.batch_size == 16
    lines = [line for line in open("params.yaml") if line.strip() and not line.lstrip().startswith("#")]
    for line in lines:
        key = line.split(":")[0].strip()
        # A section is explained above it, and so are `devices` and the optimisers after the first one.
        section = line.rstrip().endswith(":") or key == "devices"
        again = {"kind", "build", "python", "adadelta", "adagrad", "rmsprop", "mom"}
        assert "#" in line or section or key in again, line


@pytest.mark.parametrize(
    "key, value, wanted",
    [
        ("train.batch_size", "many", "train.batch_size: wanted a whole number from 2, given 'many'"),
        ("train.batch_size", 1, "train.batch_size: wanted"),
        ("train.batch_size", True, "train.batch_size: wanted"),
        ("train.optimizer", "adam", "wanted one of ADAGRAD, ADADELTA, ADAM, RMSPROP, MOM, given 'adam'"),
        ("train.keep_probability", 0, "train.keep_probability: wanted a number above 0 to 1, given 0"),
        ("train.moving_average_decay", 1.0, "from 0 and below 1, given 1.0"),
        ("train.weight_decay", float("nan"), "train.weight_decay: wanted"),
        ("train.random_flip", 1, "train.random_flip: wanted true or false, given 1"),
        ("train.schedule", [[1, 0.1]], "train.schedule: wanted a list of [first epoch, rate] pairs"),
        ("train.schedule", [[0, 0.1], [0, 0.2]], "train.schedule"),
        ("train.schedule", "model3", "one of model1, model2"),
        ("train.adam", {"beta1": 0.9, "beta2": 0.999}, "train.adam.epsilon: is missing"),
        ("dataset.classes", ["a"], "dataset.classes: wanted a list of 2 or more different class names"),
        ("dataset.classes", ["a", "A"], "dataset.classes: wanted a list of 2 or more different class names"),
        ("dataset.classes", ["a", "../b"], "dataset.classes: wanted a list of 2 or more different class names, but '"),
        ("dataset.classes", ["happy", "joy", "sad"], "but 'happy' and 'joy' mean the same"),
        ("dataset.classes", ["happy", "worst"], "but 'worst' is the name of the sheet data/sheets/worst.png, given"),
        ("dataset.classes", ["happy", "bored"], "dataset.classes: 'bored' can't be drawn; kind rendered draws anger, "),
        ("dataset.kind", "folder", "dataset.source: kind folder wanted the path of your pictures, given 'covpool/"),
        ("dataset.source", "/faces", "dataset.source: kind rendered draws its pictures and wanted covpool/rendered"),
        ("dataset.source", "s3://bucket/faces", "dataset.source: wanted the path of a folder or file"),
        ("dataset.endpoint", "https://x", "dataset.endpoint and dataset.revision: belong to dataset.url, which is not"),
        ("dataset.sha256", "0" * 64, "dataset.url and dataset.sha256: kind rendered draws its pictures"),
        ("dataset.sha256", "0" * 63, "dataset.sha256: wanted 64 digits of 0-9a-f, or nothing"),
        ("dataset.split.val", 0, "dataset.split.val: wanted a number above 0 and below 1, given 0"),
        ("dataset.split.test", 0.8, "dataset.split: val and test leave nothing to train on"),
        ("dataset.split.subject", "(", "dataset.split.subject: wanted a regular expression with at most one group"),
        ("dataset.split.subject", "(a)(b)", "dataset.split.subject: wanted a regular expression"),
        ("dataset.limits.max_ratio", 0, "dataset.limits.max_ratio: wanted a number from 1, given 0"),
        ("devices", [], "devices: wanted a list of 1 or more"),
        ("devices", ["tpu"], "devices: 'tpu' has no entry in device_options; there are cpu, gpu"),
        ("device_options.cpu.kind", "tpu", "device_options.cpu.kind: wanted one of cpu, gpu"),
        ("spd.maximum", 1e-9, "spd.maximum: wanted"),
        ("evaluate.split", "test", "no test split"),
        ("normalise.margin", 0, "train.random_crop: has no room to shift with normalise.margin 0"),
        ("normalise.scheduler", "10.0.0.1:8786", "wanted tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler"),
        ("normalise.detector", "haar", "normalise.detector: wanted one of mtcnn, yuface, none"),
        ("train.pretrained_hash", "abc", "train.pretrained_hash: wanted 64 digits of 0-9a-f, or nothing, given 'abc'"),
        ("train.pretrained_hash", "0" * 64, "is the hash of train.pretrained_model, which is not given"),
        ("network", None, "network: wanted keys model_def"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, wanted):
    assert wanted in refused(changed(key, value))


ADDRESSED = {"kind": "folder", "url": "https://example.org/faces.zip"}


def addressed(**changes):
    content = copy.deepcopy(GOOD)
    content["dataset"].update({**ADDRESSED, **changes})
    return content


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({"url": "ftp://host/x"}, "dataset.url: wanted http(s)://host/file, s3://bucket/object"),
        ({"url": "faces.zip"}, "dataset.url: wanted"),
        ({"url": "https://host"}, "dataset.url: wanted"),
        ({"url": "https://[host/x"}, "dataset.url or dataset.endpoint: is no address"),
        ({"url": "obs://bucket/x"}, "dataset.endpoint: is wanted for obs:// addresses"),
        ({"endpoint": "https://host"}, "dataset.endpoint: is wanted for obs:// addresses, allowed for s3://, and for"),
        ({"url": "s3://bucket/x", "endpoint": "host"}, "dataset.endpoint: wanted http(s)://host"),
        ({"url": "s3://bucket/x?y"}, "dataset.url: a bucket's address has no ?"),
        ({"url": "s3://bucket/x/", "sha256": "0" * 64}, "dataset.sha256: a folder has no sum"),
        ({"source": "/faces"}, "dataset.source: wanted covpool/rendered, as dataset.url says where"),
        ({"kind": "rendered"}, "dataset.url and dataset.sha256: kind rendered draws its pictures"),
    ],
)
def test_a_wrong_address_is_told(changes, wanted):
    assert wanted in refused(addressed(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"url": "http://127.0.0.1:80/a/b.csv?version=3", "sha256": "0" * 64},
        {"url": "s3://bucket/folder/", "revision": "may"},
        {"url": "s3://bucket/x.zip", "endpoint": "http://minio:9000"},
        {"url": "obs://bucket/x.zip", "endpoint": "https://obs.cn-north-4.myhuaweicloud.com"},
    ],
)
def test_a_right_address_is_taken(changes):
    assert config.parse_params(addressed(**changes)).dataset.url


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "https://me:hunter2@example.org/x"},
        {"url": "s3://AKIA:hunter2@bucket/x"},
        {"url": "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=hunter2"},
        {"url": "https://host/x?access_token=hunter2"},
        {"url": "s3://bucket/x", "endpoint": "https://me:hunter2@host"},
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(changes):
    message = refused(addressed(**changes))
    assert "holds a password or key" in message and "hunter2" not in message


def test_the_iterative_logarithm_bounds_the_ridge():
    content = changed("spd.method", "iterative")
    assert config.parse_params(content).spd.ridge == 1e-4
    content["spd"]["ridge"] = 0.0
    assert "spd.ridge: the iterative logarithm wanted from 1e-06 to 0.3, given 0.0" in refused(content)


def test_a_mistyped_key_gets_a_suggestion_and_the_right_one_is_missed():
    content = changed("train.epoch", 3)
    del content["train"]["epochs"]
    message = refused(content)
    assert "train.epoch: no such key; did you mean train.epoch_size?" in message or "train.epochs?" in message
    assert "train.epochs: is missing" in message


def test_all_wrong_things_are_told_at_once():
    content = changed("train.batch_size", 0)
    content["spd"]["ridge"] = "x"
    assert "2 things are wrong" in refused(content)


def test_scalars_mean_what_they_mean_to_dvc(tmp_path):
    from ruamel.yaml import YAML

    values = "1e-4 no off 1.0e+4 true 010 '' .5 ~ -3 1_000 12:30 5e-2 0o7x yes null +4 -.25 1. TRUE".split()
    text = "".join(f"key{number}: {value}\n" for number, value in enumerate(values))
    (tmp_path / "x.yaml").write_text(text)
    ours, dvcs = config.read_yaml(tmp_path / "x.yaml"), YAML(typ="safe", pure=True).load(text)
    assert ours == dvcs
    assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in dvcs.items()}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_that_yaml_writes_is_read_back(number):
    text = yaml.safe_dump({"x": number})
    assert yaml.load(text, Loader=yaml_file._Loader)["x"] == number


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
        max_leaves=8,
    )
)
def test_any_content_is_refused_with_a_message_never_a_crash(content):
    with pytest.raises(config.ParamsError):
        config.parse_params(content)
    for section in ("train", "devices", "device_options", "dataset"):
        with pytest.raises(config.ParamsError):
            config.parse_params(dict(GOOD, **{section: content}))


def test_the_originals_schedule_files(tmp_path):
    (tmp_path / "rate.txt").write_text(
        "# epoch: rate\n0: 0.005\n80: 0.002  # later\n\n150:0.001\n250: 0.0005\n350: 0.0001\n1000: 0.00001\n"
    )
    assert config.read_schedule_file(tmp_path / "rate.txt") == config.NAMED_SCHEDULES["model1"]
    (tmp_path / "rate.txt").write_text("0: 0.1\nnonsense\n")
    with pytest.raises(config.ParamsError, match="rate.txt:2: wanted `epoch: rate`, given 'nonsense'"):
        config.read_schedule_file(tmp_path / "rate.txt")


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(config.ParamsError, match="missing.yaml is missing"):
        config.load_params(tmp_path / "missing.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(config.ParamsError, match="is no YAML"):
        config.load_params(tmp_path / "broken.yaml")


def test_a_section_is_rebuilt_from_a_record():
    network = config.load_params().network
    assert config.build_section("network", config.as_plain(network), "model.json") == network
    with pytest.raises(config.ParamsError, match="model.json: 1 thing is wrong\n  network.pooling: wanted one of"):
        config.build_section("network", dict(config.as_plain(network), pooling="max"), "model.json")


def test_what_params_yaml_says_is_handed_on_as_it_is():
    """Stages depend on params.yaml by its keys, not on what reads it: a table in between would go unseen by DVC."""
    for changes in ({}, {"schedule": "model1"}, {"schedule": "model2", "optimizer": "MOM"}):
        content = config.read_yaml("params.yaml")
        content["train"].update(changes)
        assert config.as_plain(config.parse_params(content)) == content
