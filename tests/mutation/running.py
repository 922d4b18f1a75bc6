"""Runs tests against a copy of the project in which one module has a mistake."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.places import Mutation

#: pytest's exit codes: tests failed; a test file, a plugin or a conftest.py could not be imported.
FAILED = (1, 2, 3, 4)


class MutationError(Exception):
    """The check can't be made: the tests fail without a mistake, or do not use the module."""


class Copy:
    """A copy of the project's files, with links to its environments, in which tests run.

    Args:
        root: the project.
        folder: an empty folder for the copy.
        tests: what pytest is to run, relative to the project. Tests below tests/tf run in TensorFlow's interpreter.
    """

    def __init__(self, root: Path, folder: Path, tests: Sequence[str]):
        self.folder = folder
        launcher = "stages/tf" if all(test.startswith("tests/tf") for test in tests) else "stages/py"
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
        self.command = [launcher, "-m", "pytest", *options, *tests]
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, stdout=subprocess.PIPE, check=True
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, folder / name)
        for name in (".venv", ".venv-tf"):
            if (root / name).exists():
                (folder / name).symlink_to((root / name).resolve())

    def check(self, modules: Sequence[str]) -> float:
        """Return the seconds that the tests take without a mistake.

        Raises:
            MutationError: if the tests fail without a mistake, or pass although a module can't be imported.
        """
        started = time.monotonic()
        code, output = self._run(None)
        if code:
            raise MutationError(f"the tests fail without a mutation (pytest's exit code {code}):\n{output}")
        seconds = time.monotonic() - started
        for module in modules:
            source = (self.folder / module).read_bytes()
            if self._run_with(module, b"raise ImportError('mutation check')\n", None)[0] not in FAILED:
                raise MutationError(f"the tests pass although {module} raises an error: they do not import it")
            assert (self.folder / module).read_bytes() == source
        return seconds

    def run(self, mutation: Mutation, limit: float) -> str:
        """Return `killed`, `timeout` (the tests took more than `limit` seconds) or `survived`."""
        source = (self.folder / mutation.module).read_bytes()
        code, output = self._run_with(mutation.module, mutation.apply(source), limit)
        if code is None:
            return "timeout"
        if code and code not in FAILED:
            raise MutationError(f"pytest ended with exit code {code}:\n{output}")
        return "killed" if code else "survived"

    def _run_with(self, module: str, content: bytes, limit: float | None) -> tuple[int | None, str]:
        path = self.folder / module
        source = path.read_bytes()
        path.write_bytes(content)
        try:
            return self._run(limit)
        finally:
            path.write_bytes(source)

    def _run(self, limit: float | None) -> tuple[int | None, str]:
        # A .pyc file is known by time and size, which a mutation may leave as they are.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
            return process.returncode, output[-3000:]
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            # Also what the tests may have started and left.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
