"""What the data stages raise."""


class DatasetError(Exception):
    """The data set is not as it should be; the message says what was expected, what was found and what to do."""
