"""What the data stages raise."""


class DatasetError(Exception):
    """The data set is not as it should be; the message says what was found, what was wanted and what to do."""
