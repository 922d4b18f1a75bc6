"""What can be wrong with devices."""


class DeviceError(RuntimeError):
    """The device that was asked for is not there, or TensorFlow can't drive it."""
