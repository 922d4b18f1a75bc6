"""The error that wrong parameters raise."""


class ParamsError(ValueError):
    """One or more keys or values of the parameters are wrong; the message has a line for each."""
