"""Writes `page.html`, the page of `dvc plots`, with Vega inside: it then needs no network.

Run it to take another version of Vega: `python3 .dvc/plots/make_page.py`. It needs npm, and network access once.
"""

import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

#: The versions of Vega that DVC's templates are written for, the newest of each.
PACKAGES = ("vega@5.33.0", "vega-lite@5.23.0", "vega-embed@6.29.0")

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>DVC plots</title>
<style>body { font-family: system-ui, sans-serif; margin: 24px; } table { border-spacing: 15px; }</style>
%s
</head>
<body>
{plot_divs}
</body>
</html>
"""


def script(package: str) -> str:
    """Return a package of the npm registry as a script element, with its license in front."""
    name = package.split("@")[0]
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--json", package]
        packed = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
        with tarfile.open(Path(folder) / json.loads(packed)[0]["filename"]) as archive:
            text, notice = (
                archive.extractfile(f"package/{path}").read().decode("utf-8")
                for path in (f"build/{name}.min.js", "LICENSE")
            )
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL")]
    text = "\n".join(lines).replace("</script", "<\\/script")
    return f"<script>\n/* {package}\n\n{notice.strip()}\n*/\n{text}\n</script>"


if __name__ == "__main__":
    target = Path(__file__).with_name("page.html")
    target.write_text(PAGE % "\n".join(map(script, PACKAGES)), encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes")
