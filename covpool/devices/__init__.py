"""The devices that a run can be on: what is there, how a session on it is configured, and what it is called.

    device = open_device("cpu", params.device_options["cpu"])
    with device.session(graph) as session: ...

A device that is absent is an error (`DeviceError`), never another device in silence.
"""

from covpool.devices.device import Device, DeviceError, open_cpu, open_device
from covpool.devices.host import describe_host, describe_tensorflow, peak_memory

__all__ = ["Device", "DeviceError", "describe_host", "describe_tensorflow", "open_cpu", "open_device", "peak_memory"]
