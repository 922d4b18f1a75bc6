"""params.yaml's schema: what is refused is named, what is allowed is typed, and YAML is read as DVC reads it."""

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from covpool import config

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
    "key, value, message",
    [
        ("train.batch_size", "many", "train.batch_size: expected a whole number from 2, got 'many'"),
        ("train.batch_size", 1, "train.batch_size: expected"),
        ("train.batch_size", True, "train.batch_size: expected"),
        ("train.optimizer", "adam", "expected one of ADAGRAD, ADADELTA, ADAM, RMSPROP, MOM, got 'adam'"),
        ("train.keep_probability", 0, "train.keep_probability: expected a number above 0 to 1, got 0"),
        ("train.moving_average_decay", 1.0, "from 0 and below 1, got 1.0"),
        ("train.weight_decay", float("nan"), "train.weight_decay: expected"),
        ("train.random_flip", 1, "train.random_flip: expected true or false, got 1"),
        ("train.schedule", [[1, 0.1]], "train.schedule: expected a list of [first epoch, rate] pairs"),
        ("train.schedule", [[0, 0.1], [0, 0.2]], "train.schedule"),
        ("train.schedule", "model3", "one of model1, model2"),
        ("train.adam", {"beta1": 0.9, "beta2": 0.999}, "train.adam.epsilon: is missing"),
        ("dataset.classes", ["a"], "dataset.classes: expected a list of 2 or more different class names"),
        ("dataset.classes", ["a", "A"], "dataset.classes: expected a list of 2 or more different class names"),
        (
            "dataset.classes",
            ["a", "../b"],
            "different class names, got ['a', '../b']: '../b'",
        ),
        ("dataset.classes", ["happy", "joy", "sad"], "got ['happy', 'joy', 'sad']: 'happy' and 'joy' mean the same"),
        ("dataset.classes", ["happy", "worst"], ": 'worst' is the name of the sheet data/sheets/worst.png"),
        (
            "dataset.classes",
            ["happy", "bored"],
            "expected expressions that kind rendered can draw (anger, ",
        ),
        ("dataset.kind", "folder", "expected the path of your pictures for kind folder, got 'covpool/"),
        ("dataset.source", "/faces", "dataset.source: expected covpool/rendered for kind rendered, got '/faces'"),
        ("dataset.source", "s3://bucket/faces", "dataset.source: expected the path of a folder or file"),
        ("dataset.endpoint", "https://x", "dataset.endpoint and dataset.revision: expected '' without dataset.url"),
        ("dataset.sha256", "0" * 64, "dataset.url and dataset.sha256: expected '' for kind rendered"),
        ("dataset.sha256", "0" * 63, "dataset.sha256: expected 64 digits of 0-9a-f, or ''"),
        ("dataset.split.val", 0, "dataset.split.val: expected a number above 0 and below 1, got 0"),
        ("dataset.split.test", 0.8, "dataset.split: expected val + test below 1"),
        ("dataset.split.subject", "(", "dataset.split.subject: expected a regular expression with at most one group"),
        ("dataset.split.subject", "(a)(b)", "dataset.split.subject: expected a regular expression"),
        ("dataset.limits.max_ratio", 0, "dataset.limits.max_ratio: expected a number from 1, got 0"),
        ("devices", [], "devices: expected a list of 1 or more"),
        ("devices", ["tpu"], "devices: expected names from device_options (cpu, gpu, npu), got 'tpu'"),
        ("device_options.cpu.kind", "tpu", "device_options.cpu.kind: expected one of cpu, gpu"),
        ("spd.maximum", 1e-9, "spd.maximum: expected"),
        ("evaluate.splits", "test", "evaluate.splits: expected a list of 1 or more different ones of train, val, test"),
        ("normalise.margin", 0, "train.random_crop: expected false, because normalise.margin is 0"),
        ("normalise.scheduler", "10.0.0.1:8786", "expected tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler"),
        ("normalise.detector", "haar", "normalise.detector: expected one of mtcnn, yuface, none"),
        ("train.pretrained_hash", "abc", "train.pretrained_hash: expected 64 digits of 0-9a-f, or '', got 'abc'"),
        ("train.pretrained_hash", "0" * 64, "expected '' without train.pretrained_model"),
        ("network", None, "network: expected the keys model_def"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, message):
    assert message in refused(changed(key, value))


ADDRESSED = {"kind": "folder", "url": "https://example.org/faces.zip"}


def addressed(**changes):
    content = copy.deepcopy(GOOD)
    content["dataset"].update({**ADDRESSED, **changes})
    return content


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"url": "ftp://host/x"}, "dataset.url: expected http(s)://host/file, s3://bucket/object"),
        ({"url": "faces.zip"}, "dataset.url: expected"),
        ({"url": "https://host"}, "dataset.url: expected"),
        ({"url": "https://[host/x"}, "dataset.url or dataset.endpoint: is not a valid address"),
        ({"url": "obs://bucket/x"}, "dataset.endpoint: expected the address of the store for an obs:// address"),
        ({"endpoint": "https://host"}, "dataset.endpoint: is for obs:// and s3:// addresses only"),
        ({"url": "s3://bucket/x", "endpoint": "host"}, "dataset.endpoint: expected http(s)://host"),
        ({"url": "s3://bucket/x?y"}, "dataset.url: expected no ? and # in a bucket's address"),
        ({"url": "s3://bucket/x/", "sha256": "0" * 64}, "dataset.sha256: a folder has no checksum"),
        ({"source": "/faces"}, "dataset.source: expected covpool/rendered, because dataset.url is set"),
        ({"kind": "rendered"}, "dataset.url and dataset.sha256: expected '' for kind rendered"),
    ],
)
def test_a_wrong_address_is_told(changes, message):
    assert message in refused(addressed(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"url": "http://127.0.0.1:80/a/b.csv?version=3", "sha256": "0" * 64},
        {"url": "https://host/compass/encode;v=1/passport.zip?bypass=1&postcode=2#zipcode"},
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
        *({"url": f"https://host/x?{name}=hunter2"} for name in ("pass", "pwd", "jwt", "sas", "code", "Api-Key", "PW")),
        {"url": "https://host/x?version=3&sas=hunter2"},
        {"url": "https://host/x;token=hunter2"},
        {"url": "https://host/a;jwt=hunter2/x"},
        {"url": "https://host/x?a=1;pwd=hunter2"},
        {"url": "https://host/x#token=hunter2"},
        {"url": "https://host/x#?access_token=hunter2"},
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(changes):
    message = refused(addressed(**changes))
    assert "holds a password or key" in message and "hunter2" not in message


def test_the_iterative_logarithm_bounds_the_ridge():
    content = changed("spd.method", "iterative")
    assert config.parse_params(content).spd.ridge == 1e-4
    content["spd"]["ridge"] = 0.0
    assert "spd.ridge: expected 1e-06 to 0.3 for the iterative logarithm, got 0.0" in refused(content)


def test_a_mistyped_key_gets_a_suggestion_and_the_right_one_is_missed():
    content = changed("train.epoch", 3)
    del content["train"]["epochs"]
    message = refused(content)
    assert "train.epoch: no such key; did you mean train.epoch_size?" in message or "train.epochs?" in message
    assert "train.epochs: is missing" in message


def test_all_wrong_things_are_told_at_once():
    content = changed("train.batch_size", 0)
    content["spd"]["ridge"] = "x"
    assert "2 problems" in refused(content)


@pytest.mark.parametrize("place", ["devices: [cpu]\n", "  batch_size: 16 "])
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, place):
    """PyYAML takes the last one, and DVC ends with an error of its own."""
    before, found, after = open("params.yaml").read().partition(place)
    text = before + found.rstrip("\n") + "\n" + place.rstrip("\n") + "\n" + after
    (tmp_path / "params.yaml").write_text(text)
    first = before.count("\n") + 1
    with pytest.raises(config.ParamsError) as caught:
        config.load_params(tmp_path / "params.yaml")
    name = place.split(":")[0].strip()
    assert f"params.yaml, line {first + 1}: the key {name!r} is already in line {first}." in str(caught.value)


def test_a_runs_options_are_found_by_its_name():
    params = config.load_params()
    assert config.run_options(params, "gpu").kind == "gpu"
    with pytest.raises(config.ParamsError, match=r"^--device: expected a name .*\(cpu, gpu, npu\), got 'tpu'$"):
        config.run_options(params, "tpu")


def test_scalars_mean_what_they_mean_to_dvc(tmp_path):
    values = "1e-4 no off 1.0e+4 true 010 '' .5 ~ -3 1_000 12:30 5e-2 0o7x yes null +4 -.25 1. TRUE".split()
    text = "".join(f"key{number}: {value}\n" for number, value in enumerate(values))
    (tmp_path / "x.yaml").write_text(text)
    ours, dvcs = config.read_yaml(tmp_path / "x.yaml"), YAML(typ="safe", pure=True).load(text)
    assert ours == dvcs
    assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in dvcs.items()}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_that_yaml_writes_is_read_back(tmp_path_factory, number):
    path = tmp_path_factory.getbasetemp() / "float.yaml"
    path.write_text(yaml.safe_dump({"x": number}))
    assert config.read_yaml(path)["x"] == number


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
    with pytest.raises(config.ParamsError, match="rate.txt:2: expected `epoch: rate`, got 'nonsense'"):
        config.read_schedule_file(tmp_path / "rate.txt")


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(config.ParamsError, match="missing.yaml is missing"):
        config.load_params(tmp_path / "missing.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(config.ParamsError, match="is not valid YAML"):
        config.load_params(tmp_path / "broken.yaml")


def test_a_section_is_rebuilt_from_a_record():
    network = config.load_params().network
    assert config.build_section("network", config.as_plain(network), "model.json") == network
    with pytest.raises(config.ParamsError, match="model.json: 1 problem\n  network.pooling: expected one of"):
        config.build_section("network", dict(config.as_plain(network), pooling="max"), "model.json")


def test_what_params_yaml_says_is_handed_on_as_it_is():
    """Stages depend on params.yaml by its keys, not on what reads it: a table in between would go unseen by DVC."""
    for changes in ({}, {"schedule": "model1"}, {"schedule": "model2", "optimizer": "MOM"}):
        content = config.read_yaml("params.yaml")
        content["train"].update(changes)
        assert config.as_plain(config.parse_params(content)) == content
