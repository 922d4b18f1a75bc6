"""The error that fetching a data set raises."""


class DatasetError(Exception):
    """The data set is not as expected. The message says what was expected, what was found and what to do."""
