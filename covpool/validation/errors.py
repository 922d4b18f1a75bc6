"""What validation raises."""


class ValidationError(Exception):
    """The data set breaks a limit; the message has the counts, examples and the limit's name."""
