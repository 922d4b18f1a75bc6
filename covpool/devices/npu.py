"""An Ascend NPU as a device, through npu_bridge, for TensorFlow 1.15 on Ascend hosts.

An NPU is not a device of TensorFlow. The adapter's graph optimiser takes the operations that are placed on the CPU and
runs them on the chip. The options of the adapter come from the options of the run. `covpool.config.npu_keys` rejects
options that the adapter would ignore or that would crash it. See docs/npu.md.

This module follows the adapter's source code and documentation. It was tested with a stand-in that enforces their
rules. It has not been run on hardware yet.
"""

import errno
import functools
import glob
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Optional, Union

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from covpool.config import NpuOptions, as_plain
from covpool.devices import bridge, cpu, meter, npu_session, smi
from covpool.devices.device import Device
from covpool.devices.errors import DeviceError
from covpool.distributed import hccl_environment
from covpool.distributed.workers import ALONE, Alone
from covpool.pipeline import artifacts

#: The file of the Ascend port. It disables all operator fusions except one, which the matrix diagonals need.
FUSION_SWITCH = Path(__file__).resolve().parent / "fusion_switch.cfg"
#: The driver's device files, one per chip.
DEVICE_FILES = "/dev/davinci[0-9]*"
#: Options for paths, processes and devices. They are left out of the record's `options`.
_PLACES = ("kind", "build", "python", "workers", "visible_device", "op_cache", "profiling", "dump")


class NpuDevice(Device):
    """An NPU."""

    tells_time = False

    def __init__(
        self,
        name: str,
        options: NpuOptions,
        adapter: bridge.Bridge,
        config: tf.ConfigProto,
        record: Dict[str, Any],
        workers: Alone,
        gauge: Any,
    ) -> None:
        """Create the device.

        Args:
            name: The name of the device in params.yaml.
            options: Its options.
            adapter: The imported npu_bridge.
            config: The ConfigProto of the session.
            record: The entry in the run's record, without `count`.
            workers: The workers that train together.
            gauge: The gauge of energy and memory, or None.
        """
        super().__init__(name, "npu", cpu.PLACE, config, record, workers, gauge)
        self._options = options
        self._adapter = adapter
        self.steps_per_run = options.iterations_per_loop
        self.skips_overflow = options.loss_scaling != "off"

    def dropout(self, keep_probability: float) -> Optional[Callable[[tf.Tensor, int], tf.Tensor]]:
        """Return the NPU's implementation of dropout.

        Args:
            keep_probability: The probability that an element is kept.

        Returns:
            A function of a tensor and a seed.
        """
        return bridge.dropout(self._adapter, keep_probability)

    def scale_loss(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Add loss scaling to an optimiser, as the option `loss_scaling` says.

        Args:
            optimizer: The optimiser of the run.

        Returns:
            An NPULossScaleOptimizer, or `optimizer` itself if `loss_scaling` is "off".
        """
        if self._options.loss_scaling == "off":
            return optimizer
        return bridge.scale_loss(
            self._adapter, optimizer, self._options.loss_scaling, self._options.loss_scale, self.workers.count > 1
        )

    def keep_float32(self, operations: Iterable[tf.Operation]) -> None:
        """Mark operations that must not be computed in half precision.

        Args:
            operations: The operations to mark.
        """
        bridge.keep_dtype(self._adapter, operations)

    def step_op(self, session: tf.Session, step: tf.Operation) -> tf.Operation:
        """Return the op that runs `steps_per_run` training steps in a loop on the NPU.

        Args:
            session: The session of the training. Its graph must not be finalized.
            step: The op that runs one training step.

        Returns:
            The op that runs `steps_per_run` steps.
        """
        return bridge.loop(self._adapter, session, step, self.steps_per_run)


def open_npu(
    name: str,
    options: NpuOptions,
    must_exist: bool = True,
    workers: Alone = ALONE,
    prepare: bool = True,
) -> NpuDevice:
    """Open the NPU that the options describe.

    Args:
        name: The name of the device in params.yaml.
        options: Its options.
        must_exist: Whether the NPU must exist. Use False to build a graph and its configuration on a host that has
            npu_bridge but no NPU.
        workers: The workers that train together. Each uses the chip that its environment names.
        prepare: Whether to create the output folders.

    Returns:
        The device.

    Raises:
        DeviceError: npu_bridge or the NPU is missing, or the adapter can't use the options, files or folders.
    """
    adapter = bridge.load(name)
    parameters = npu_session.session_parameters(options, str(FUSION_SWITCH))
    if workers.count == 1:
        number = options.visible_device
        # This NPU trains alone. With HCCL's variables in the environment, the adapter would wait for other workers.
        hccl_environment.leave(os.environ)
    else:
        number = workers.device
        # The workers exchange gradients while they compute the next ones.
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


def session_config(parameters: Dict[str, Union[bool, int, str]]) -> tf.ConfigProto:
    """Configure a session on the NPU.

    Args:
        parameters: The parameter_map of the adapter, {key: value}.

    Returns:
        The ConfigProto of the session.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    rewriting = config.graph_options.rewrite_options
    off = rewriter_config_pb2.RewriterConfig
    rewriting.remapping = off.OFF
    # This enumeration has no value for OFF, and the number of OFF means MANUAL here.
    rewriting.memory_optimization = off.NO_MEM_OPT
    # The NPU must run exactly the operations of the project's graph.
    rewriting.arithmetic_optimization = off.OFF
    optimizer = rewriting.custom_optimizers.add()
    optimizer.name = "NpuOptimizer"
    for key, value in parameters.items():
        field = npu_session.field_of(value)
        setattr(optimizer.parameter_map[key], field, value.encode("utf-8") if field == "s" else value)
    return config


def _refuse_unread(name, parameters, adapter):
    """Raise DeviceError if the adapter would ignore some of the parameters."""
    unread = npu_session.unread(parameters, adapter.generation)
    if unread:
        raise DeviceError(f"device {name!r}: {'; '.join(map(': '.join, unread))}.")


def _check_files(name, parameters):
    """Raise DeviceError if a file or folder of the parameters is missing.

    The adapter itself would end the process or ignore the file.
    """
    for key in ("fusion_switch_file", "modify_mixlist", "op_precision_mode", "aoe_config_file"):
        path = parameters.get(key)
        if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise DeviceError(f"device {name!r}: {key} must be a file that this user can read, got {path}.")
    if "work_path" in parameters:
        _check_folder(name, "work_path", parameters["work_path"])


def _check_folders(name, options, make):
    """Raise DeviceError if the adapter can't write to an output folder, because the adapter would end the process.

    Args:
        name: The name of the device in params.yaml.
        options: Its options.
        make: Whether to create missing folders.

    Raises:
        DeviceError: A folder can't be created, read or written.
    """
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
    """Find the folder itself if it exists, or else the nearest existing parent.

    Args:
        folder: The path of the folder.

    Returns:
        The path of the existing folder.

    Raises:
        OSError: The path that was found is not a folder.
    """
    place = Path(folder).absolute()
    found = next(each for each in (place, *place.parents) if os.path.lexists(str(each)))
    if not found.is_dir():
        number = errno.EEXIST if found == place else errno.ENOTDIR
        raise OSError(number, os.strerror(number))
    return str(found)


def _check_folder(name, key, folder):
    """Raise DeviceError if the folder does not exist or this user can't read and write it."""
    if not os.path.isdir(folder):
        raise DeviceError(f"device {name!r}: {key} must be an existing folder, got {folder}.")
    if not os.access(folder, os.R_OK | os.W_OK):
        raise DeviceError(f"device {name!r}: {key} must be a folder that this user can read and write, got {folder}.")


def _find(name, number):
    """Return the Accelerator with this number, or raise DeviceError if the driver does not show it."""
    shown = smi.ascend_npus()
    chips = sorted({int(re.search(r"\d+\Z", path).group()) for path in glob.glob(DEVICE_FILES)})
    for npu in shown:
        if npu.number == number:
            return npu
    if number in chips:
        # A container can have the chip but not npu-smi.
        return smi.Accelerator(number, None, None)
    there = ", ".join(map(str, sorted({npu.number for npu in shown} | set(chips))))
    raise DeviceError(
        f"device {name!r} is NPU {number}, but this host has {f'only {there}' if there else 'no NPU'} "
        f"(according to npu-smi and {DEVICE_FILES})."
    )


def _gauge(number, workers):
    """Create the gauge of energy and memory for this chip.

    npu-smi may show one power for all chips of a card. Then only the first worker on the card measures the energy.

    Args:
        number: The number of the chip.
        workers: The workers that train together.

    Returns:
        A `meter.PowerGauge`, or a `meter.MemoryGauge` if another worker measures the energy.
    """
    power_at = smi.ascend_power_at()
    own = power_at.get(number, number)
    neighbours = (number,) if workers.count == 1 else workers.neighbours
    if not neighbours:
        # Another worker may use the same card. If its chip shows the power, that worker measures the energy.
        own = number
    elif number != next(each for each in neighbours if power_at.get(each, each) == own):
        return meter.MemoryGauge(functools.partial(smi.ascend_usage, number))
    return meter.PowerGauge("the card by npu-smi", functools.partial(smi.ascend_usage, number, own))


def _choose(name, number):
    """Set the environment variable that selects the NPU.

    The adapter reads two variables. DeviceError is raised if one of them is already set to a different number.
    """
    for variable in ("ASCEND_DEVICE_ID", "DEVICE_ID"):
        if os.environ.get(variable, str(number)) != str(number):
            raise DeviceError(
                f"device {name!r}: visible_device is {number}, but the environment has {variable}="
                f"{os.environ[variable]}: set both to the same number, or unset {variable}."
            )
    os.environ["ASCEND_DEVICE_ID"] = str(number)


def _computing(options, parameters):
    """Return the NPU's options that affect the results, for the run's record.

    The fusion switch file is recorded by its SHA-256 checksum.
    """
    plain = {key: value for key, value in as_plain(options).items() if key not in _PLACES}
    plain["fusion_switch_file"] = artifacts.sha256_file(parameters["fusion_switch_file"])
    return plain
