"""The report's figures, drawn by matplotlib as SVG for the page.

Colours are those of the page (CSS variables), so that a figure is legible on light, dark and paper. Matplotlib draws
with stand-in colours, which are replaced in the SVG text. Identifiers get a prefix that makes them unique in the page.
Equal input gives equal text: no date, a fixed salt for identifiers, fixed decimals.
"""

import io
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from covpool.reporting.runs import Run

#: Stand-in colour -> CSS variable of the page. Series are Okabe and Ito's palette, told apart by the colour-blind.
INK, MUTED, RULE = "#010101", "#020202", "#030303"
SERIES = ("#040401", "#040402", "#040403", "#040404", "#040405", "#040406")
STAND_INS = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(SERIES, 1)
}

#: Sizes in inches. The page shows an inch at about the same width in each, so that letters come out equally large.
HEIGHT, STANDARD, SMALL = 2.7, 5.0, 3.5
POINTS = 9.5
#: A run with fewer epochs than this is drawn with a marker at each.
MARKED_EPOCHS = 30
#: Width of the last run's line in points, and by how much each run below it is wider. The same for its markers.
LINE, LINE_BELOW = 1.6, 1.2
MARKER, MARKER_BELOW = 3.2, 2.2
MARKERS = ("o", "s", "D", "^", "v", "P")
#: Widths in a legend in inches: a handle with the space around it, and a letter of its text.
LEGEND_HANDLE, LEGEND_LETTER = 0.45, 0.078
#: Range of the whiskers, in percent of the steps.
WHISKERS = (5, 95)
QUANTILES = (5, 10, 25, 50, 75, 90, 95)
#: Ratio of largest to smallest value from which an axis is logarithmic.
LOGARITHMIC_FROM = 30
#: Shares that spread over more than this are shown from 0 to 100 %.
WIDE_SHARES = 0.05

_STYLE = {
    "svg.hashsalt": "covpool",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": POINTS,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.handlelength": 2.2,
}


def curve(
    runs: Sequence[Run],
    name: str,
    lines: Sequence[tuple[str, str, str]],
    *,
    unit: str = "",
    width: float = STANDARD,
    steps: bool = False,
    description: str,
) -> Markup | None:
    """Draw columns of `history.csv` over the epochs, the runs overlaid.

    Args:
        runs: The runs, in the order of their colours.
        name: Prefix of the identifiers in the SVG.
        lines: `(column, word, line style)`; if there are several, the legend tells them apart by the word.
        unit: `%` for shares.
        width: Width in inches.
        steps: Whether a value holds for the whole epoch: it is then drawn as a step, not as a slope.
        description: Alternative text.

    Returns:
        SVG, or None if there are no values.
    """
    drawn = [
        (number, style, *_points(run, column, steps)) for number, run in enumerate(runs) for column, _, style in lines
    ]
    drawn = [item for item in drawn if len(item[2])]
    if not drawn:
        return None

    def draw(axes):
        for number, style, epochs, values in drawn:
            # Runs below are wider, so that a run of equal values does not hide them.
            below = len(runs) - 1 - number
            marked = not steps and len(epochs) < MARKED_EPOCHS
            axes.plot(
                epochs,
                values,
                style,
                color=_series(number),
                linewidth=LINE + LINE_BELOW * below,
                marker=_marker(number) if marked else None,
                markersize=MARKER + MARKER_BELOW * below,
                alpha=0.75 if below else 1,
            )
            if len(epochs) == 1:
                label = f"{100 * values[0]:.1f} %" if unit == "%" else f"{values[0]:.4g}"
                axes.annotate(label, (epochs[0], values[0]), (7, 4), textcoords="offset points", color=_series(number))
        axes.set_xlabel("epoch")
        _epoch_axis(axes, max(run.history["epoch"].max() for run in runs if len(run.history)))
        _scale(axes, np.concatenate([values for *_, values in drawn]), unit)
        _legend(axes, runs, lines, marked=not steps)

    return _svg(draw, name, description, width, HEIGHT * (width + STANDARD) / (2 * STANDARD))


def _epoch_axis(axes, last):
    """Whole epochs only, each with room for its value."""
    axes.set_xlim(0.5, last + 0.5)
    if last <= 8:
        axes.xaxis.set_major_locator(FixedLocator(range(1, int(last) + 1)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _marker(number):
    return MARKERS[number % len(MARKERS)]


def _legend(axes, runs, lines, marked):
    handles = [
        Line2D([], [], color=_series(number), marker=_marker(number) if marked else None, markersize=4, label=run.title)
        for number, run in enumerate(runs)
    ]
    handles = handles if len(runs) > 1 else []
    if len(lines) > 1:
        handles += [Line2D([], [], color=MUTED, linestyle=style, label=word) for _, word, style in lines]
    if handles:
        widest = LEGEND_HANDLE + LEGEND_LETTER * max(len(handle.get_label()) for handle in handles)
        columns = max(1, min(len(handles), int(axes.figure.get_figwidth() / widest)))
        axes.figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=columns,
            fontsize=POINTS - 0.5,
            labelcolor=INK,
            columnspacing=1.4,
            handlelength=1.8,
            borderpad=0,
        )


def _series(number):
    return SERIES[number % len(SERIES)]


def step_times(runs: Sequence[Run], *, description: str) -> Markup | None:
    """Draw a box plot of the time of a step, one row per run. Returns SVG, or None if no run has step times."""
    timed = [(number, run) for number, run in enumerate(runs) if len(run.times)]
    if not timed:
        return None
    boxes = [_box(run) for _, run in timed]

    def draw(axes):
        parts = axes.bxp(
            boxes,
            orientation="horizontal",
            showfliers=False,
            showmeans=True,
            patch_artist=True,
            widths=0.5,
            meanprops={"marker": "D", "markersize": 4},
        )
        for place, (number, _) in enumerate(timed):
            color = _series(number)
            parts["boxes"][place].set(facecolor=color, alpha=0.3, edgecolor=color)
            parts["medians"][place].set(color=color, linewidth=2.4)
            parts["means"][place].set(markerfacecolor=color, markeredgecolor=color)
            for line in parts["whiskers"][2 * place : 2 * place + 2] + parts["caps"][2 * place : 2 * place + 2]:
                line.set(color=color)
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlabel("seconds per step")
        low, high = min(box["whislo"] for box in boxes), max(box["whishi"] for box in boxes)
        if low > 0 and high / low > LOGARITHMIC_FROM:
            axes.set_xscale("log")
            _plain_log(axes.xaxis)
        else:
            axes.set_xlim(0, high * 1.05)

    return _svg(draw, "step-times", description, STANDARD, 0.8 + 0.45 * len(timed))


def step_quantiles(run: Run) -> dict[str, float]:
    """Return the distribution of a run's step times in seconds: steps, mean, quantiles, mean of the last epoch."""
    seconds, epoch = run.times["seconds"], run.times["epoch"]
    quantiles = np.percentile(seconds, QUANTILES)
    return {
        "steps": len(seconds),
        "mean": float(seconds.mean()),
        "last_epoch_mean": float(seconds[epoch == epoch.max()].mean()),
        "min": float(seconds.min()),
        **{f"p{rank:02d}": float(value) for rank, value in zip(QUANTILES, quantiles, strict=True)},
        "max": float(seconds.max()),
    }


def _box(run):
    low, first, median, third, high = np.percentile(run.times["seconds"], (WHISKERS[0], 25, 50, 75, WHISKERS[1]))
    return {
        "label": run.title,
        "whislo": low,
        "q1": first,
        "med": median,
        "q3": third,
        "whishi": high,
        "mean": run.times["seconds"].mean(),
    }


def _points(run, column, steps):
    """Epochs and finite values of a column; as steps, each value at the beginning and at the end of its epoch."""
    table = run.history[["epoch", column]].dropna()
    epochs, values = table["epoch"].to_numpy(float), table[column].to_numpy(float)
    if steps:
        epochs = np.stack([epochs - 0.5, epochs + 0.5], axis=1).ravel()
        values = np.repeat(values, 2)
    return epochs, values


def _scale(axes, values, unit):
    low, high = values.min(), values.max()
    if unit == "%":
        wide = high - low > WIDE_SHARES
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if wide else None))
        axes.set_ylim(min(0, low), 1 if wide else high * 1.08 or WIDE_SHARES)
    elif low > 0 and high / low > LOGARITHMIC_FROM:
        axes.set_yscale("log")
        _plain_log(axes.yaxis)
    elif low >= 0:
        axes.set_ylim(0, high * 1.08 or 1)


def _plain_log(axis):
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(draw, name, description, width, height):
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot(facecolor="none")
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={key: None for key in ("Date", "Creator", "Format", "Type")})
    return Markup(_inline(stream.getvalue(), name, description))


def _inline(svg, name, description):
    """SVG for an HTML page: no prologue, no size except its view box, the page's colours and font, unique ids."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', svg).group()
    label = Markup.escape(description)
    svg = re.sub(r"<svg[^>]*>", f'<svg role="img" aria-label="{label}" {view_box}>', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("xlink:href", "href").replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for stand_in, variable in STAND_INS.items():
        svg = svg.replace(stand_in, variable)
    return svg.replace("'DejaVu Sans'", "var(--sans)")
