"""One DVC experiment, run by a program: parameters written so that `dvc exp run -S` reads them back, and a clean end.

`-S key=value` is read by Hydra's override grammar and then by OmegaConf. Any text survives both: commas, quotes, `#`,
`$`, backslashes, brackets, spaces, letters of any script.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys

import psutil
from hydra.core.override_parser.types import Quote, QuotedString

from covpool.config import PARAMS_FILE

#: Words and paths that need no quotes, and the words among them that would be read as something else.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*\Z")
_NO_TEXT = ("true", "false", "null", "inf", "nan")


def override(key, value):
    """`key=value` as one argument of `-S`.

    value: text, a number, true or false, or lists and dictionaries of these. Raises ValueError for text that
    params.yaml can't hold: control characters, and file names that are not UTF-8.
    """
    try:
        return f"{key}={written(value)}"
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def written(value):
    """A value in Hydra's grammar."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(written, value)) + "]"
    return repr(value)


def _quoted(text):
    if _PLAIN.match(text) and text.casefold() not in _NO_TEXT:
        return text
    if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text):
        raise ValueError(f"expected text in UTF-8 without control characters, got {text!r}")
    # OmegaConf would look ${...} up; a backslash before it, and two for each backslash that was there, say that it is
    # meant as it stands.
    if "${" in text:
        text = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)
    return QuotedString(text, Quote.double).with_quotes()


def git_problem():
    """What would keep DVC from recording an experiment as a commit, which it finds out at the very end; "": nothing."""
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


def _git(*arguments):
    return subprocess.run(["git", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(arguments):
    """Run `dvc exp run ARGUMENTS` to its end and return its exit code; where it fails, params.yaml is put back.

    Ctrl-C reaches DVC and the stage by itself, as the terminal sends it to all; this process stays to clean up. A
    SIGTERM that it gets becomes the same for the others: of a SIGTERM, DVC would die and leave the stage behind.
    """
    before = PARAMS_FILE.read_bytes()

    def interrupt(number, _frame):
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
    # A child that a signal ended has its number, negative.
    return code if code >= 0 else 128 - code
