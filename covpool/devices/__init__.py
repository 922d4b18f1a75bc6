"""The devices that a run can use: how they are found, described and configured.

    device = open_device("cpu", params.device_options["cpu"])
    with device.session(graph) as session: ...

A missing device raises `DeviceError`; there is no silent fallback to another device. `stages/tf -m covpool.diagnostics`
prints the devices of this host.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, Union

from covpool.devices import bridge
from covpool.devices.cpu import open_cpu
from covpool.devices.device import Device
from covpool.devices.errors import DeviceError
from covpool.devices.gpu import open_gpu
from covpool.devices.host import describe_host, describe_tensorflow, peak_memory
from covpool.devices.meter import Meter
from covpool.devices.npu import open_npu
from covpool.distributed.errors import LostWorkers, WorkersError
from covpool.distributed.hccl import open_hccl
from covpool.distributed.workers import ALONE, Alone, open_horovod

if TYPE_CHECKING:
    from covpool.config.sections import CpuOptions, GpuOptions, NpuOptions

__all__ = [
    "ALONE",
    "Device",
    "DeviceError",
    "LostWorkers",
    "Meter",
    "describe_host",
    "describe_tensorflow",
    "open_cpu",
    "open_device",
    "open_gpu",
    "open_npu",
    "open_workers",
    "peak_memory",
    "without_loop",
]


def without_loop(options: "Union[CpuOptions, GpuOptions, NpuOptions]") -> "Union[CpuOptions, GpuOptions, NpuOptions]":
    """Change the options of a device so that each session.run makes one training step or scores one batch.

    A loop on an NPU reads its batches from a Dataset in the graph of the session. A graph that only scores has no
    Dataset.

    Args:
        options: The options of the device.

    Returns:
        A copy of the options with one iteration per loop for an NPU, or else `options` itself.
    """
    return dataclasses.replace(options, iterations_per_loop=1) if options.kind == "npu" else options


def open_device(
    name: str,
    options: "Union[CpuOptions, GpuOptions, NpuOptions]",
    workers: Alone = ALONE,
    prepare: bool = True,
) -> Device:
    """Open the device that the options describe.

    Args:
        name: The name of the device in params.yaml.
        options: Its options, from `params.device_options`.
        workers: The workers that train together, one per device. The device of this worker is opened.
        prepare: Whether to create the output folders of the device. Use False to check only whether it is available.

    Returns:
        The device.

    Raises:
        DeviceError: The device does not exist, or TensorFlow can't use it.
    """
    if options.kind == "cpu":
        return open_cpu(name, options.threads, workers)
    if options.kind == "gpu":
        return open_gpu(name, options, workers)
    return open_npu(name, options, workers=workers, prepare=prepare)


def open_workers(name: str, options: "Union[CpuOptions, GpuOptions, NpuOptions]") -> Alone:
    """Connect this process to the other workers of the run.

    Args:
        name: The name of the device in params.yaml.
        options: Its options, from `params.device_options`.

    Returns:
        `ALONE` for one worker, or else an object that represents this process as one of several workers.

    Raises:
        DeviceError: The options need several workers, but this process was not started as one of that many.
        LostWorkers: The other workers can't be reached.
    """
    if options.workers == 1:
        return ALONE
    try:
        if options.kind == "npu":
            return open_hccl(name, options.workers, functools.partial(bridge.allreduce, bridge.load(name)))
        return open_horovod(name, options.workers)
    except WorkersError as error:
        raise DeviceError(str(error)) from None
