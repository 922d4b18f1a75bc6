"""What is raised where the parameters are wrong."""


class ParamsError(ValueError):
    """One or more keys or values of the parameters are wrong; the message has a line for each."""
