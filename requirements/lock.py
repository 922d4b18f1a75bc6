"""Pins what the requirements/*.in files ask for, down to the last package, in the .txt files beside them; `make lock`.

Each file is resolved by pip itself, under the interpreter that will install it. A line of a .in file that ends in
`# ... files only ...` is taken as it is, without what the package asks for. No index address is written down.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from install import BUILDS, CURRENT, REQUIREMENTS, find_python

FILES_ONLY = "files only"


def main():
    interpreters = {"py": CURRENT}
    interpreters.update({requirements: versions for _, requirements, versions in BUILDS.values()})
    for name, versions in interpreters.items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([find_python(versions), "-m", "venv", folder], check=True)
            pip = [str(Path(folder) / "bin" / "python"), "-m", "pip"]
            subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
            base = lock(pip, name, {})
            lock(pip, name + "-test", base)


def lock(pip, name, base):
    """Write `<name>.txt`; packages that `base` pins already are left out of it."""
    lines = (REQUIREMENTS / (name + ".in")).read_text().splitlines()
    resolved = [line for line in lines if FILES_ONLY not in line]
    pins = {}
    for line in lines:
        if FILES_ONLY in line:
            package, version = line.split("#")[0].strip().split("==")
            pins[package] = version
    with tempfile.NamedTemporaryFile("w", suffix=".in", dir=str(REQUIREMENTS)) as stream:
        stream.write("\n".join(resolved) + "\n")
        stream.flush()
        command = ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", "-r", stream.name]
        report = json.loads(subprocess.run(pip + command, check=True, stdout=subprocess.PIPE).stdout)
    for item in report["install"]:
        pins[item["metadata"]["name"]] = item["metadata"]["version"]
    new = {package: version for package, version in pins.items() if package.lower() not in base}
    text = "".join("{}=={}\n".format(*pin) for pin in sorted(new.items(), key=lambda pin: pin[0].lower()))
    (REQUIREMENTS / (name + ".txt")).write_text("# From {}.in by `make lock`.\n".format(name) + text)
    print("{}.txt: {} packages".format(name, len(new)), file=sys.stderr)
    return {package.lower() for package in pins}


if __name__ == "__main__":
    main()
