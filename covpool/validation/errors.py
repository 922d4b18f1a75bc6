"""The error that validation raises."""


class ValidationError(Exception):
    """The data set breaks a limit. The message has the counts, examples and the name of the limit."""
