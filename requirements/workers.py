"""Adds Horovod to the TensorFlow environment, for runs with several workers; run by `make setup-workers`.

    python requirements/workers.py [--build intel|stock] [--tests]

Horovod is built against the TensorFlow that is there, which takes minutes, a C++ compiler and make. Its own variables
decide how (HOROVOD_GPU_OPERATIONS=NCCL for GPUs, ...); without any: TensorFlow only, over Gloo.
"""

import argparse
import hashlib
import os
import shutil
import sys

import install
from install import BUILDS, REQUIREMENTS, ROOT, SetupError

PINS = REQUIREMENTS / "workers.txt"
OPTIONS = {
    "HOROVOD_WITH_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_PYTORCH": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
}


def main():
    parser = argparse.ArgumentParser(description="Add Horovod to the TensorFlow environment.")
    parser.add_argument("--build", default=os.environ.get("TF_BUILD") or None, help="intel or stock")
    parser.add_argument("--tests", action="store_true", help="also install what the tests need")
    arguments = parser.parse_args()
    try:
        if os.environ.get("COVPOOL_TF_PYTHON"):
            raise SetupError(
                "COVPOOL_TF_PYTHON names an interpreter of your own: docs/workers.md says how to build Horovod for it."
            )
        build = install.choose_build(arguments.build)
        if build == "tf2":
            raise SetupError(
                "Horovod 0.28.1, the last release, can't be built against TensorFlow 2.21: set up "
                "TensorFlow 1.15, `make setup-workers TF_BUILD=intel` or stock."
            )
        if not (shutil.which("g++") and shutil.which("make")):
            raise SetupError("Horovod is built from source: install g++ and make (`apt install g++ make`).")
        with install.lock():
            install.set_up(build, arguments.tests)
            folder, requirements, _ = BUILDS[build]
            add_horovod(ROOT / folder, REQUIREMENTS / (requirements + ".txt"))
    except SetupError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; run it again to continue")


def add_horovod(place, base):
    """Build Horovod in the environment at `place`, unless that was done; base: the file with its TensorFlow."""
    wanted = hashlib.sha256(base.read_bytes() + PINS.read_bytes()).hexdigest()
    stamp = install.read_stamp(place)
    if stamp.get(PINS.name) == wanted:
        return
    install.say(f"{place.name}: building Horovod, which takes some minutes")
    install.write_stamp(place, dict(stamp, **{PINS.name: install.BEGUN}))
    os.environ.update({key: value for key, value in OPTIONS.items() if key not in os.environ})
    os.environ["PATH"] = os.pathsep.join([str(place / "bin"), os.environ.get("PATH", "")])
    pins = [line for line in PINS.read_text().splitlines() if not line.startswith("#")]
    python = str(place / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    # What builds it has to be there before.
    install.run(pip + [pin for pin in pins if not pin.startswith("horovod==")], "installing what Horovod needs")
    # Not from pip's cache, which does not know against which TensorFlow and with which options a package was built.
    build = ["--no-build-isolation", "--no-cache-dir"]
    install.run(pip + build + [pin for pin in pins if pin.startswith("horovod==")], "building Horovod")
    install.run([python, "-c", "import horovod.tensorflow"], "loading the Horovod that was built")
    install.write_stamp(place, dict(stamp, **{PINS.name: wanted}))
    install.say(f"{place.name}: ready for several workers")


if __name__ == "__main__":
    main()
