"""`dvc plots` in a browser without a network: something is drawn, and two revisions can be told apart."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from covpool.pipeline import artifacts
from covpool.reporting import build_report
from tests.project import ROOT

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: No address but that of the page itself can be resolved.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=10000",
)


@pytest.fixture(scope="module")
def compared(make_project, tmp_path_factory):
    """The page of `dvc plots diff` between a run of twelve epochs and, in the workspace, its first epoch alone."""
    root = tmp_path_factory.mktemp("plots")
    project = make_project(root, counts=(("train", 1), ("val", 2)))
    project.add_run("cpu")
    build_report(root, devices=["cpu"], loss_tolerance=0.1)
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}), encoding="utf-8")

    def run(*command):
        environment = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", DVC_NO_ANALYTICS="1")
        subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)

    run("git", "init", "-q")
    run("git", "add", "reports", "dvc.yaml", ".dvc")
    run("git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-qm", "first")
    rows = artifacts.read_csv(root / "reports/curves.csv")
    artifacts.write_csv(root / "reports/curves.csv", list(rows[0]), rows[:1])
    run(str(Path(sys.executable).with_name("dvc")), "plots", "diff", "HEAD", "workspace")
    return root / "dvc_plots/index.html"


def test_the_page_needs_no_address(compared):
    page = compared.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link)[^>]*(?:src|href)=", page)
    assert page.count("Copyright (c)") >= 3  # the license of each part of Vega


@pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome")
def test_plots_are_drawn_without_a_network_and_revisions_differ(compared, tmp_path):
    # Vega draws on a canvas, which the document does not show: ask it for SVG here.
    page = compared.read_text(encoding="utf-8")
    compared.with_name("svg.html").write_text(re.sub(r"', spec\);", "', spec, {renderer: 'svg'});", page), "utf-8")
    shown = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", compared.with_name("svg.html").as_uri()],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=60,
    ).stdout
    drawings = {
        title: next(text for text in re.findall(r"<svg.*?</svg>", shown, re.DOTALL) if title in text)
        for title in ("Total loss", "Cross entropy on val", "Accuracy on val", "Learning rate", "Confusion", "Seconds")
    }
    for title, heading in (("Total loss", "loss"), ("Learning rate", "learning rate"), ("Confusion", "true class")):
        assert f">{heading}</text>" in drawings[title] and ">epoch</text>" in drawings["Total loss"]
    assert ">cpu, HEAD</text>" in drawings["Total loss"] and ">cpu, workspace</text>" in drawings["Total loss"]
    symbols = re.findall(r'<g class="mark-symbol role-legend-symbol".*?</g>', drawings["Total loss"], re.DOTALL)
    assert len(set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', "".join(symbols)))) == 2
    # The run of one epoch has its value beside its point; the learning rate goes down in a step, not in a slope.
    assert re.search(r">\d\.\d+</text>", drawings["Total loss"])
    lines = re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]*)"', drawings["Learning rate"])
    moves = [[tuple(map(float, point)) for point in re.findall(r"[ML]([-\d.]+),([-\d.]+)", line)] for line in lines]
    steps = [(a, b) for line in moves for a, b in zip(line, line[1:], strict=False)]
    assert steps and all(a[0] == b[0] or a[1] == b[1] for a, b in steps)
