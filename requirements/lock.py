"""Pins what the requirements/*.in files ask for, down to the last package, in the .txt files beside them; `make lock`.

    python requirements/lock.py [--upgrade] [NAME ...]

What is pinned already stays as it is, unless it no longer fits or --upgrade is given. uv resolves each file for every
kind of processor that the environment exists for; a package or version that only one of them takes gets a marker. A
line of a .in file that ends in `# ... files only ...` is taken as it is, without what the package asks for. No index
address is written down.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from install import BUILDS, CURRENT, REQUIREMENTS, TF1

FILES_ONLY = "files only"
#: platform.machine() -> uv's name of the platform. TensorFlow 1.15 is published for the first only, and
#: the peers of the benchmark are compared there.
PLATFORMS = {"x86_64": "x86_64-manylinux_2_28", "aarch64": "aarch64-manylinux_2_28"}


def main():
    interpreters = {"py": CURRENT, "bench": CURRENT}
    interpreters.update({requirements: versions for _, requirements, versions in BUILDS.values()})
    parser = argparse.ArgumentParser(description="Pin what the requirements/*.in files ask for.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the .in files allow")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these of " + ", ".join(interpreters))
    options = parser.parse_args()
    unknown = set(options.names) - set(interpreters)
    if unknown:
        parser.error("expected one or more of {}, got {}".format(", ".join(interpreters), ", ".join(sorted(unknown))))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([str(Path(folder) / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"], check=True)
        uv = str(Path(folder) / "bin" / "uv")
        for name in options.names or interpreters:
            versions = interpreters[name]
            machines = ["x86_64"] if versions == TF1 or name == "bench" else list(PLATFORMS)
            base = lock(uv, name, versions, machines, options.upgrade, {})
            if (REQUIREMENTS / (name + "-test.in")).exists():
                lock(uv, name + "-test", versions, machines, options.upgrade, base)
            if name == "tf115":
                lock(uv, "workers", versions, machines, options.upgrade, base)


def lock(uv, name, versions, machines, upgrade, base):
    """Write `<name>.txt`, without the packages that `base` (as returned by this function) pins already."""
    by_machine = {machine: resolve(uv, name, versions, PLATFORMS[machine], upgrade) for machine in machines}
    pins = merge(
        {
            machine: {package: version for package, version in found.items() if package not in base}
            for machine, found in by_machine.items()
        }
    )
    lines = [f"# From {name}.in by `make lock`."] + pins
    (REQUIREMENTS / (name + ".txt")).write_text("\n".join(lines) + "\n")
    print(f"{name}.txt: {len(pins)} packages", file=sys.stderr)
    return {package for found in by_machine.values() for package in found}


def resolve(uv, name, versions, platform, upgrade):
    """{package: version} of all that `<name>.in` needs on a platform."""
    lines = (REQUIREMENTS / (name + ".in")).read_text().splitlines()
    pins = dict(line.split("#")[0].strip().split("==") for line in lines if FILES_ONLY in line)
    locked = REQUIREMENTS / (name + ".txt")
    with tempfile.TemporaryDirectory() as folder:
        # uv keeps the versions that it finds in its output file. Beside the .in files: they name others by `-c`.
        output = Path(folder) / "pins.txt"
        output.write_text(locked.read_text() if locked.exists() and not upgrade else "")
        with tempfile.NamedTemporaryFile("w", suffix=".in", dir=str(REQUIREMENTS)) as wanted:
            wanted.write("\n".join(line for line in lines if FILES_ONLY not in line) + "\n")
            wanted.flush()
            subprocess.run(
                [
                    uv,
                    "pip",
                    "compile",
                    "--quiet",
                    "--no-header",
                    "--no-annotate",
                    "--python-platform",
                    platform,
                    "--python-version",
                    "{}.{}".format(*versions[0]),
                    "--output-file",
                    str(output),
                    wanted.name,
                ],
                check=True,
                cwd=str(REQUIREMENTS),
            )
        pins.update(line.split("==") for line in output.read_text().splitlines() if "==" in line)
    return pins


def merge(by_machine):
    """The lines of a requirements file from {machine: {package: version}}: a marker where the machines differ."""
    lines = set()
    for machine, pins in by_machine.items():
        for package, version in pins.items():
            shared = all(other.get(package) == version for other in by_machine.values())
            marker = "" if shared else f'; platform_machine == "{machine}"'
            lines.add(f"{package}=={version}{marker}")
    return sorted(lines, key=str.lower)


if __name__ == "__main__":
    main()
