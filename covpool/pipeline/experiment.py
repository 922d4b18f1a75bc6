"""Runs one DVC experiment from a program: writes parameters for `dvc exp run -S`, and cleans up at the end.

Hydra's override grammar reads `-S key=value`, and OmegaConf then reads the value. Both preserve any text: commas,
quotes, `#`, `$`, backslashes, brackets, spaces, and letters of any script.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from typing import Any, Sequence

import psutil
from hydra.core.override_parser.types import Quote, QuotedString

from covpool.config import PARAMS_FILE

#: Words and paths that need no quotes, and the words among them that would not be read as text.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*\Z")
_NO_TEXT = ("true", "false", "null", "inf", "nan")


def override(key: str, value: Any) -> str:
    """Return `key=value` as one argument of `-S`.

    Args:
        key: The key in params.yaml.
        value: A text, a number, true or false, or a list or dictionary of these.

    Returns:
        The argument.

    Raises:
        ValueError: params.yaml can't hold the text: it has control characters, or is not UTF-8.
    """
    try:
        return f"{key}={written(value)}"
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def written(value: Any) -> str:
    """Return a value in Hydra's grammar.

    Args:
        value: As for `override`.

    Returns:
        The text that Hydra reads as this value.

    Raises:
        ValueError: As for `override`.
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(written, value)) + "]"
    return repr(value)


def _quoted(text: str) -> str:
    if _PLAIN.match(text) and text.casefold() not in _NO_TEXT:
        return text
    if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text):
        raise ValueError(f"expected text in UTF-8 without control characters, got {text!r}")
    # OmegaConf would replace ${...}. A backslash before it prevents this. Backslashes that already precede it are
    # doubled.
    if "${" in text:
        text = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)
    return QuotedString(text, Quote.double).with_quotes()


def git_problem() -> str:
    """Return why DVC could not record an experiment as a commit. DVC itself checks this only at the end.

    Returns:
        The reason and its remedy; "" if there is no problem.
    """
    if _git("rev-parse", "--quiet", "--verify", "HEAD").returncode:
        return (
            "the project is not a Git repository with a commit, but `dvc exp run` records each run in one. Clone it "
            "with Git, or run `git init && git add -A && git commit -m start` here."
        )
    configured = not (_git("config", "user.name").returncode or _git("config", "user.email").returncode)
    by_environment = all(
        os.environ.get(f"GIT_{role}_{what}") for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    )
    if configured or by_environment:
        return ""
    return (
        "Git does not know your name, but `dvc exp run` records each run in a commit. Set it once: "
        '`git config --global user.name "Your Name"` and `git config --global user.email you@example.org`.'
    )


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(arguments: Sequence[str]) -> int:
    """Run `dvc exp run` and wait for its end. If it fails, params.yaml is restored.

    The terminal sends Ctrl-C to DVC and the stage as well; this process continues, to clean up. If this process gets a
    SIGTERM, it sends SIGINT to the others: on a SIGTERM, DVC would end and leave the stage running.

    Args:
        arguments: The arguments of `dvc exp run`.

    Returns:
        The exit code; 128 plus the number of the signal if a signal ended DVC.
    """
    before = PARAMS_FILE.read_bytes()

    def interrupt(number: int, _frame: Any) -> None:
        if number == signal.SIGTERM:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)

    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = subprocess.Popen([sys.executable, "-m", "dvc", "exp", "run", *arguments]).wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if code and PARAMS_FILE.read_bytes() != before:
        PARAMS_FILE.write_bytes(before)
        print(
            f"`dvc exp run` ended with code {code}; params.yaml is again as it was. The same command resumes.",
            file=sys.stderr,
        )
    # subprocess gives the number of the signal that ended a process as a negative exit code.
    return code if code >= 0 else 128 - code
