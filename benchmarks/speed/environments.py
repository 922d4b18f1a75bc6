"""Sets up what `make bench` runs in, by the project's own set-up: every TensorFlow build, and the peers' environment.

Run by `make bench` with any Python from 3.8 on, standard library only.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "requirements"))

import install  # noqa: E402

PEERS = ".venv-bench"


def main():
    try:
        with install.lock():
            jobs = [install.environment(".venv", "py", install.CURRENT, tests=False)]
            jobs += [install.environment(*build, tests=False) for build in install.BUILDS.values()]
            jobs.append(install.environment(PEERS, "bench", install.CURRENT, tests=False))
            install.in_parallel([job for job in jobs if job])
            _complete_pytorch()
    except install.SetupError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; run it again to go on")


def _complete_pytorch():
    """PyPI's PyTorch for x86-64 is the one with CUDA and does not load without CUDA's libraries, which are not pinned.

    Where pip finds PyTorch's build for CPUs (`PIP_EXTRA_INDEX_URL`, `PIP_FIND_LINKS`), nothing is left to do.
    """
    python = str(ROOT / PEERS / "bin" / "python")
    if subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode == 0:
        return
    pin = next(line for line in (ROOT / "requirements" / "bench.txt").read_text().splitlines() if line[:7] == "torch==")
    install.say(f"{PEERS}: PyTorch wants CUDA's libraries")
    install.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", pin], "completing PyTorch")


if __name__ == "__main__":
    main()
