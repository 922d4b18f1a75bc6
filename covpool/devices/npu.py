"""An Ascend NPU as a device, through npu_bridge, for TensorFlow 1.15 on Ascend hosts.

TensorFlow knows no NPU as a device of its own: the adapter's graph optimiser takes what would run on the processor and
runs it on the chip. Its options come from the run's options by way of `covpool.config.npu_keys`, which refuses what the
adapter would ignore or crash on. See docs/npu.md. Written against the adapter's sources and documents, tested
against a stand-in that enforces them; never run on hardware yet.
"""

import errno
import functools
import glob
import os
import re
from pathlib import Path

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from covpool.config import as_plain
from covpool.devices import bridge, cpu, meter, npu_session, smi
from covpool.devices.device import Device
from covpool.devices.errors import DeviceError
from covpool.distributed import hccl_environment
from covpool.distributed.workers import ALONE
from covpool.pipeline import artifacts

#: As the Ascend port has it: no fusion of operators but one that its diagonals need.
FUSION_SWITCH = Path(__file__).resolve().parent / "fusion_switch.cfg"
#: The driver's device files, one a chip.
DEVICE_FILES = "/dev/davinci[0-9]*"
#: Options that say where something goes, not how the run computes.
_PLACES = ("kind", "build", "python", "workers", "visible_device", "op_cache", "profiling", "dump")


class NpuDevice(Device):
    """An NPU. options: `config.NpuOptions`; adapter: a `bridge.Bridge`."""

    tells_time = False

    def __init__(self, name, options, adapter, config, record, workers, gauge):
        super().__init__(name, "npu", cpu.PLACE, config, record, workers, gauge)
        self._options = options
        self._adapter = adapter
        self.steps_per_run = options.iterations_per_loop
        self.skips_overflow = options.loss_scaling != "off"

    def dropout(self, keep_probability):
        return bridge.dropout(self._adapter, keep_probability)

    def scale_loss(self, optimizer):
        if self._options.loss_scaling == "off":
            return optimizer
        return bridge.scale_loss(
            self._adapter, optimizer, self._options.loss_scaling, self._options.loss_scale, self.workers.count > 1
        )

    def keep_float32(self, operations):
        bridge.keep_dtype(self._adapter, operations)

    def step_op(self, session, step):
        return bridge.loop(self._adapter, session, step, self.steps_per_run)


def open_npu(name, options, must_exist=True, workers=ALONE, prepare=True):
    """The NPU that `options`, a `config.NpuOptions`, describe.

    must_exist: False to build a graph and its configuration where there is npu_bridge but no NPU; workers: that train
    together, each on the chip that its environment names; prepare: make the folders that it writes to.
    """
    adapter = bridge.load(name)
    parameters = npu_session.session_parameters(options, str(FUSION_SWITCH))
    if workers.count == 1:
        number = options.visible_device
        # Left in the environment, they would make the adapter wait for others: this is an NPU by itself.
        hccl_environment.leave(os.environ)
    else:
        number = workers.device
        # Gradients are exchanged while the next ones are computed.
        parameters.setdefault("hcom_parallel", True)
    _refuse_unread(name, parameters, adapter)
    _check_files(name, parameters)
    found = _find(name, number) if must_exist else None
    if must_exist:
        _choose(name, number)
        _check_folders(name, options, prepare)
    record = {
        "name": found and found.name,
        "driver": found and found.driver,
        "threads": None,
        "npu_bridge": adapter.version,
        "options": _computing(options, parameters),
    }
    gauge = _gauge(number, workers) if must_exist else None
    return NpuDevice(name, options, adapter, session_config(parameters), record, workers, gauge)


def session_config(parameters):
    """The session's ConfigProto of a parameter_map {key: value}."""
    config = tf.ConfigProto(allow_soft_placement=True)
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    rewriting = config.graph_options.rewrite_options
    off = rewriter_config_pb2.RewriterConfig
    rewriting.remapping = off.OFF
    # In this enumeration OFF is the name of nothing, and its number would mean MANUAL.
    rewriting.memory_optimization = off.NO_MEM_OPT
    # So that the NPU gets the operations of our graph and no others.
    rewriting.arithmetic_optimization = off.OFF
    optimizer = rewriting.custom_optimizers.add()
    optimizer.name = "NpuOptimizer"
    for key, value in parameters.items():
        field = npu_session.field_of(value)
        setattr(optimizer.parameter_map[key], field, value.encode("utf-8") if field == "s" else value)
    return config


def _refuse_unread(name, parameters, adapter):
    unread = npu_session.unread(parameters, adapter.generation)
    if unread:
        raise DeviceError(f"device {name!r}: {'; '.join(map(': '.join, unread))}.")


def _check_files(name, parameters):
    """The adapter ends the process, or passes over the file, where one that it is to read is not there."""
    for key in ("fusion_switch_file", "modify_mixlist", "op_precision_mode", "aoe_config_file"):
        path = parameters.get(key)
        if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise DeviceError(f"device {name!r}: {key} must be a file that this user can read, got {path}.")
    if "work_path" in parameters:
        _check_folder(name, "work_path", parameters["work_path"])


def _check_folders(name, options, make):
    """Where the run writes by the adapter, which ends the process where it can't. make: the folders that are absent."""
    for key in ("op_cache", "profiling", "dump"):
        folder = getattr(options, key)
        if folder:
            try:
                if make:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                else:
                    folder = _existing(folder)
            except OSError as error:
                raise DeviceError(
                    f"device {name!r}: can't make the folder of {key}, {folder}: {error.strerror}."
                ) from error
            _check_folder(name, key, folder)


def _existing(folder):
    """The folder, or the one above it in which it would have to be made; OSError where something else is there."""
    place = Path(folder).absolute()
    found = next(each for each in (place, *place.parents) if os.path.lexists(str(each)))
    if not found.is_dir():
        number = errno.EEXIST if found == place else errno.ENOTDIR
        raise OSError(number, os.strerror(number))
    return str(found)


def _check_folder(name, key, folder):
    if not os.path.isdir(folder):
        raise DeviceError(f"device {name!r}: {key} must be an existing folder, got {folder}.")
    if not os.access(folder, os.R_OK | os.W_OK):
        raise DeviceError(f"device {name!r}: {key} must be a folder that this user can read and write, got {folder}.")


def _find(name, number):
    """The NPU of this number as the driver shows it; DeviceError where it does not."""
    shown = smi.ascend_npus()
    chips = sorted({int(re.search(r"\d+\Z", path).group()) for path in glob.glob(DEVICE_FILES)})
    for npu in shown:
        if npu.number == number:
            return npu
    if number in chips:
        # In a container that has the chip but not the tool.
        return smi.Accelerator(number, None, None)
    there = ", ".join(map(str, sorted({npu.number for npu in shown} | set(chips))))
    raise DeviceError(
        f"device {name!r} is NPU {number}, but this host has {f'only {there}' if there else 'no NPU'} "
        f"(according to npu-smi and {DEVICE_FILES})."
    )


def _gauge(number, workers):
    """Of what this chip draws. Chips of one card may have one power: the first of the workers there measures it."""
    power_at = smi.ascend_power_at()
    own = power_at.get(number, number)
    neighbours = (number,) if workers.count == 1 else workers.neighbours
    if not neighbours:
        # Another worker may be on the card; a power that stands at its chip is its.
        own = number
    elif number != next(each for each in neighbours if power_at.get(each, each) == own):
        return meter.MemoryGauge(functools.partial(smi.ascend_usage, number))
    return meter.PowerGauge("the card by npu-smi", functools.partial(smi.ascend_usage, number, own))


def _choose(name, number):
    """Tell the adapter which NPU. It reads both variables, so neither may say another one."""
    for variable in ("ASCEND_DEVICE_ID", "DEVICE_ID"):
        if os.environ.get(variable, str(number)) != str(number):
            raise DeviceError(
                f"device {name!r}: visible_device is {number}, but the environment has {variable}="
                f"{os.environ[variable]}: set both to the same number, or unset {variable}."
            )
    os.environ["ASCEND_DEVICE_ID"] = str(number)


def _computing(options, parameters):
    """What a run's result depends on beside the parameters that all devices share."""
    plain = {key: value for key, value in as_plain(options).items() if key not in _PLACES}
    plain["fusion_switch_file"] = artifacts.sha256_file(parameters["fusion_switch_file"])
    return plain
