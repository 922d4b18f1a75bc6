"""What can be wrong with devices."""


class DeviceError(RuntimeError):
    """The device that was asked for is not there, or TensorFlow can't drive it."""


class LostWorkers(DeviceError):
    """Another worker of this run has ended or can't be reached: nothing can be exchanged any more."""
