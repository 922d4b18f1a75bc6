"""The error that opening a device raises."""


class DeviceError(RuntimeError):
    """The requested device does not exist, or TensorFlow can't use it."""
