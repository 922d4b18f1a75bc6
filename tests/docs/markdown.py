"""Takes the project's Markdown pages apart: fenced blocks, inline code, links, headings, command lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.project import ROOT

#: Programs of which a page may show a command line. A line of a block that begins with another word is output.
PROGRAMS = {
    *("stages/py", "stages/tf", "dvc", "make", "sh", "git", "pip", "python", "covpool"),
    *("cd", "export", "source", "curl", "dask", "horovodrun", "npu-smi", "atc", "msame"),
}
FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[a-z0-9]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}\S.*\n(?:^ {4,}.*\n|\n(?= {4}))*)", re.MULTILINE)
SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One page: `name` relative to the project, and its text."""

    name: str
    text: str

    def blocks(self) -> Iterator[tuple[str, str]]:
        """Yield (language, text) of each fenced block, and of each indented one with the language ''."""
        for match in FENCE.finditer(self.text):
            yield match["language"], match["text"]
        for match in INDENTED.finditer(self._without_fences()):
            yield "", re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)

    def spans(self) -> list[str]:
        """Return the inline code, line breaks as blanks."""
        text = INDENTED.sub("\n", self._without_fences())
        return [" ".join(match[2].split()).replace("\\|", "|") for match in SPAN.finditer(text)]

    def links(self) -> list[str]:
        """Return the targets of links and pictures."""
        return LINK.findall(SPAN.sub("", self._without_fences()))

    def anchors(self) -> set[str]:
        """Return the anchors of the headings, as GitHub makes them."""
        titles = HEADING.findall(self._without_fences())
        return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}

    def commands(self) -> list[str]:
        """Return the command lines: those of blocks, and inline code that begins with a program's name."""
        found = [line for language, text in self.blocks() if language in ("", "sh") for line in block_commands(text)]
        return found + [span for span in self.spans() if " " in span and is_command(span)]

    def _without_fences(self) -> str:
        return FENCE.sub("\n", self.text)


def pages() -> list[Page]:
    """Return README.md, its translations, and the pages of docs/."""
    paths = sorted(ROOT.glob("README*.md")) + sorted((ROOT / "docs").glob("*.md"))
    return [Page(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


def block_commands(text: str) -> list[str]:
    """Return the command lines of a block.

    A paragraph of a block is either all command lines or all output. If a block has prompts (`$ `), only the lines with
    a prompt are commands.
    """
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    if any(line.startswith("$ ") for line in lines):
        return [line[2:] for line in lines if line.startswith("$ ")]
    found: list[str] = []
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line.strip())
            continue
        if paragraph and is_command(paragraph[0]):
            found += paragraph
        paragraph = []
    return found


def is_command(line: str) -> bool:
    """Whether a line begins with the name of a program (after assignments such as `TF_BUILD=tf2`)."""
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    return bool(words) and program_name(words[0]) in PROGRAMS


def program_name(word: str) -> str:
    """Return the name of a program without its folder in .venv and without Python's version."""
    name = re.sub(r"^\.venv/bin/", "", word)
    return "python" if re.fullmatch(r"python3?(\.\d+)?", name) else name
