"""The devices that a run can be on: what is there, how a session on it is configured, and what it is called.

    device = open_device("cpu", params.device_options["cpu"])
    with device.session(graph) as session: ...

A device that is absent is an error (`DeviceError`), never another device in silence. `stages/tf -m covpool.diagnostics`
prints what this host has.
"""

import dataclasses
import functools

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
from covpool.distributed.workers import ALONE, open_horovod

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


def without_loop(options):
    """The options of a device on which each session.run makes one step, or scores one batch.

    A loop on an NPU takes its batches from a Dataset in the session's graph, which a graph that only scores has not.
    """
    return dataclasses.replace(options, iterations_per_loop=1) if options.kind == "npu" else options


def open_device(name, options, workers=ALONE, prepare=True):
    """Find the device that `options` (of params.device_options) describe; DeviceError where it is not there.

    workers: that train together, each on a device of its own; this process gets the one that is its. prepare: make the
    folders that it writes to, which a device that is only looked for does not take.
    """
    if options.kind == "cpu":
        return open_cpu(name, options.threads, workers)
    if options.kind == "gpu":
        return open_gpu(name, options, workers)
    return open_npu(name, options, workers=workers, prepare=prepare)


def open_workers(name, options):
    """The workers of the run `name` with these options: `ALONE`, or this process as one of several.

    Raises DeviceError where several are wanted and this process was not started as one of so many, and LostWorkers
    where the others are not there.
    """
    if options.workers == 1:
        return ALONE
    try:
        if options.kind == "npu":
            return open_hccl(name, options.workers, functools.partial(bridge.allreduce, bridge.load(name)))
        return open_horovod(name, options.workers)
    except WorkersError as error:
        raise DeviceError(str(error)) from None
