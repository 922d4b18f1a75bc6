"""Draws the README's figures, `network.svg` and `spd-layers.svg`, beside this script: `stages/py docs/figures/draw.py`.

Layers and sizes are those of the paper's network (Acharya et al., CVPRW 2018) as `covpool.networks` builds it. The
matrices and spectra shown are computed here, from made-up features of fewer channels, by the layers' own formulas.
Equal versions of matplotlib write equal bytes.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Curve

HERE = Path(__file__).parent

INK, MUTED, RULE = "#1d2329", "#5b6570", "#d5dbe1"
BLUE, GREEN, ORANGE, VIOLET = "#0072b2", "#00805c", "#c65200", "#8a4585"
TINTS = {BLUE: "#e9f2f8", GREEN: "#e7f3ef", ORANGE: "#fbeee5"}
WIDTH = 9.6

STYLE = {
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "svg.hashsalt": "covpool",
    "svg.fonttype": "path",
    "text.color": INK,
}


def canvas(height):
    """A white figure with axes in units of a hundredth of its width, y upwards."""
    figure = Figure(figsize=(WIDTH, WIDTH * height / 100), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return figure, axes


def write(figure, name):
    figure.savefig(HERE / name, metadata={"Date": None, "Creator": None})


def panel(axes, x, y, width, height, color, title, indent=1.6):
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1.2", fc=TINTS[color], ec="none")
    )
    axes.text(x + indent, y + height - 2.6, title, color=color, fontsize=9.5, fontweight="bold", va="center")


def arrow(axes, start, end, color=MUTED, **style):
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color=color, lw=1.2, shrinkA=0, shrinkB=0, **style
        )
    )


def label(axes, x, y, name, size, note=""):
    """Name, output size and note of a layer, centred below each other from y downwards."""
    axes.text(x, y, name, ha="center", va="top", fontsize=7.8, fontweight="bold")
    axes.text(x, y - 2.0, size, ha="center", va="top", fontsize=7.8)
    axes.text(x, y - 4.0, note, ha="center", va="top", fontsize=7.0, color=MUTED)


def block(axes, x, y, side, depth, color):
    """A feature map seen from the front left; x and y are the middle of its front."""
    dx, dy = 0.62 * depth, 0.36 * depth
    left, right, low, high = x - side / 2, x + side / 2, y - side / 2, y + side / 2
    faces = (
        ([(left, low), (right, low), (right, high), (left, high)], 0.55),
        ([(left, high), (right, high), (right + dx, high + dy), (left + dx, high + dy)], 0.35),
        ([(right, low), (right + dx, low + dy), (right + dx, high + dy), (right, high)], 0.75),
    )
    for corners, strength in faces:
        axes.add_patch(Polygon(corners, fc=_mixed(color, strength), ec="white", lw=0.8, joinstyle="round"))
    return right + dx


def _mixed(color, strength):
    return tuple(strength * part + 1 - strength for part in matplotlib.colors.to_rgb(color))


def heat(axes, matrix, x, y, side, color, limit=None):
    """A matrix as a square of cells, its lower left corner at (x, y): the colour for positive, orange for negative."""
    limit = limit or np.abs(matrix).max()
    size = len(matrix)
    cell = side / size
    for (row, column), value in np.ndenumerate(matrix):
        shade = _mixed(color if value >= 0 else ORANGE, min(1.0, (abs(value) / limit) ** 0.6))
        axes.add_patch(
            Rectangle((x + column * cell, y + side - (row + 1) * cell), cell, cell, fc=shade, ec=shade, lw=0.2)
        )
    axes.add_patch(Rectangle((x, y), side, side, fill=False, ec=INK, lw=0.8))


def face(axes, x, y, side):
    """The network's input: a drawn, surprised face; x and y are its middle."""
    axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, fc="#cfd9e2", ec="white", lw=0.8))
    axes.add_patch(Ellipse((x, y - 0.02 * side), 0.68 * side, 0.88 * side, fc="#e8b793", ec="none"))
    hair = [(-0.35, 0.10), (-0.38, 0.55), (0.38, 0.55), (0.35, 0.10), (0.27, 0.30), (-0.10, 0.36), (-0.35, 0.10)]
    codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
    axes.add_patch(PathPatch(Curve([(x + a * side, y + b * side) for a, b in hair], codes), fc="#4a352b", ec="none"))
    for side_of_face in (-1, 1):
        eye = (x + side_of_face * 0.15 * side, y + 0.06 * side)
        axes.add_patch(Ellipse(eye, 0.13 * side, 0.12 * side, fc="white", ec="none"))
        axes.add_patch(Circle(eye, 0.043 * side, fc=INK, ec="none"))
        brow = [
            (eye[0] - 0.09 * side, eye[1] + 0.11 * side),
            (eye[0], eye[1] + 0.19 * side),
            (eye[0] + 0.09 * side, eye[1] + 0.11 * side),
        ]
        curve = Curve(brow, [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])
        axes.add_patch(PathPatch(curve, fc="none", ec="#4a352b", lw=1.4, capstyle="round"))
    axes.add_patch(Ellipse((x, y - 0.24 * side), 0.13 * side, 0.17 * side, fc="#7d2f32", ec="none"))


def covariance_of_features(channels=16, positions=144):
    """The pooled covariance (unbiased, ridged) of smooth made-up features: symmetric, positive definite."""
    rng = np.random.default_rng(5)
    patterns = rng.normal(size=(positions, 6)) @ rng.normal(size=(6, channels)) * 0.5
    features = np.maximum(patterns + 0.35 * rng.normal(size=(positions, channels)), 0)
    covariance = np.cov(features, rowvar=False)
    return features, covariance + 1e-4 * np.trace(covariance) * np.eye(channels)


def apply_to_eigenvalues(function, matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * function(values)) @ vectors.T


def bimap(matrix, outputs):
    """W and W^T C W for a W with orthonormal columns."""
    rng = np.random.default_rng(11)
    w, triangle = np.linalg.qr(rng.normal(size=(len(matrix), outputs)))
    w = w * np.sign(np.diag(triangle))
    return w, w.T @ matrix @ w


CONVOLUTIONS = (
    # name, drawn side, drawn depth, output, pooling after it
    ("Conv2d_1", 11.5, 1.6, "100×100×64", True),
    ("Conv2d_2", 8.6, 2.2, "50×50×96", True),
    ("Conv2d_3", 6.4, 2.9, "25×25×128", False),
    ("Conv2d_4", 6.4, 2.9, "25×25×128", True),
    ("Conv2d_5", 4.4, 5.0, "12×12×256", False),
    ("Conv2dfo_6", 4.4, 5.0, "12×12×256", False),
)


def draw_network():
    figure, axes = canvas(58)
    panel(axes, 1, 31, 98, 26, BLUE, "Convolutions: 3×3, stride 1, no bias, batch norm, ReLU")
    middle, places = 44.2, (8, 22.5, 38, 52, 65.5, 78, 90.5)
    face(axes, places[0], middle, 11.5)
    label(axes, places[0], 37.2, "face", "100×100×3", "aligned")
    edge = places[0] + 5.75
    for place, (name, side, depth, size, pooled) in zip(places[1:], CONVOLUTIONS, strict=True):
        arrow(axes, (edge + 0.5, middle), (place - side / 2 - 0.5, middle))
        edge = block(axes, place, middle, side, depth, BLUE)
        label(axes, place + 0.3 * depth, 37.2, name, size, "then max pool 2×2" if pooled else "")

    panel(axes, 1, 1, 57, 28, GREEN, "Second order: covariance pooling and the SPD network", indent=11.5)
    panel(axes, 60, 1, 39, 28, ORANGE, "Classifier")
    _, covariance = covariance_of_features()
    _, projected = bimap(covariance, 8)
    logarithm = apply_to_eigenvalues(np.log, projected)
    low = 11.4
    matrices = (
        (4, 12.5, covariance, "covariance pooling", "256×256", "over 144 positions"),
        (21.5, 8.2, projected, "BiMap", "128×128", "WᵀCW"),
        (
            34,
            8.2,
            apply_to_eigenvalues(lambda values: np.clip(values, 1e-4, 1e4), projected),
            "ReEig",
            "128×128",
            "clip eigenvalues",
        ),
        (46.5, 8.2, logarithm, "LogEig", "128×128", "matrix logarithm"),
    )
    for number, (x, side, matrix, name, size, note) in enumerate(matrices):
        heat(axes, matrix, x, low + (12.5 - side) / 2, side, GREEN)
        label(axes, x + side / 2, low - 1.6, name, size, note)
        if number:
            before = matrices[number - 1]
            arrow(axes, (before[0] + before[1] + 0.5, low + 6.25), (x - 0.5, low + 6.25))
    turn = Curve(
        [
            (96.0, 44.2),
            (98.2, 44.2),
            (98.2, 42),
            (98.2, 32.6),
            (98.2, 30),
            (95.6, 30),
            (12.9, 30),
            (10.25, 30),
            (10.25, 27.8),
            (10.25, 24.5),
        ],
        [
            Curve.MOVETO,
            Curve.CURVE3,
            Curve.CURVE3,
            Curve.LINETO,
            Curve.CURVE3,
            Curve.CURVE3,
            Curve.LINETO,
            Curve.CURVE3,
            Curve.CURVE3,
            Curve.LINETO,
        ],
    )
    axes.add_patch(PathPatch(turn, fc="none", ec=MUTED, lw=1.2))
    arrow(axes, (10.25, 25.2), (10.25, 24.1))

    vectors = (
        (64.5, 13.0, "flatten", "16 384", "", "-"),
        (72.5, 10.0, "fc_1", "2000", "ReLU", "-"),
        (80, 6.5, "fc_2", "128", "covpoolnet\nonly", "--"),
        (87.5, 6.5, "Bottleneck", "128", "embedding", "-"),
        (95, 3.2, "Logits", "7", "classes", "-"),
    )
    edge = 54.7
    for x, height, name, size, note, line in vectors:
        arrow(axes, (edge + 0.5, low + 6.25), (x - 1.4, low + 6.25))
        axes.add_patch(
            FancyBboxPatch(
                (x - 0.9, low + 6.25 - height / 2),
                1.8,
                height,
                boxstyle="round,pad=0,rounding_size=0.5",
                fc=_mixed(ORANGE, 0.45) if line == "-" else "white",
                ec=ORANGE,
                lw=0.9,
                ls=line,
            )
        )
        label(axes, x, low - 1.6, name, size, note)
        edge = x + 0.9
    write(figure, "network.svg")


def heading(axes, x, y, number, title, formula):
    axes.text(
        x,
        y,
        f"{number}",
        fontsize=10,
        color="white",
        fontweight="bold",
        ha="center",
        va="center",
        bbox={"boxstyle": "circle,pad=0.28", "fc": GREEN, "ec": "none"},
    )
    axes.text(x + 2.6, y, title, fontsize=10.5, fontweight="bold", va="center")
    axes.text(x + 2.6, y - 4.2, formula, fontsize=9.5, va="center")


def caption(axes, x, y, text):
    axes.text(x, y, text, fontsize=8, color=MUTED, va="top", linespacing=1.45)


def grid(axes, x, y, width, height, rows, columns, values, color):
    """A rectangle of cells shaded by `values` [rows, columns]."""
    limit = np.abs(values).max()
    for (row, column), value in np.ndenumerate(values):
        shade = _mixed(color if value >= 0 else ORANGE, min(1.0, (abs(value) / limit) ** 0.6))
        size = (width / columns, height / rows)
        corner = (x + column * size[0], y + height - (row + 1) * size[1])
        axes.add_patch(Rectangle(corner, *size, fc=shade, ec=shade, lw=0.2))
    axes.add_patch(Rectangle((x, y), width, height, fill=False, ec=INK, lw=0.8))


def draw_pooling(axes, x, y, features, covariance):
    heading(
        axes,
        x + 3.4,
        y + 32,
        1,
        "Covariance pooling",
        r"$C=S+\lambda\,\mathrm{tr}(S)\,I,\quad S=\frac{1}{P-1}\sum_p (f_p-\bar f)(f_p-\bar f)^{\top}$",
    )
    block(axes, x + 6.6, y + 16.4, 6.4, 6.5, BLUE)
    for step in range(1, 12):
        for line in (
            ((x + 3.4 + step * 6.4 / 12,) * 2, (y + 13.2, y + 19.6)),
            ((x + 3.4, x + 9.8), (y + 13.2 + step * 6.4 / 12,) * 2),
        ):
            axes.plot(*line, color="white", lw=0.4)
    size = {"ha": "center", "va": "top", "fontsize": 7.8}
    axes.text(x + 8.4, y + 11.6, "12×12×256", **size)
    arrow(axes, (x + 14.6, y + 16.4), (x + 18, y + 16.4))
    grid(axes, x + 19, y + 10.6, 7.6, 12.4, 24, 16, features[:24], BLUE)
    axes.text(x + 22.8, y + 9.7, "P = 144 positions\n× 256 channels", linespacing=1.3, **size)
    arrow(axes, (x + 27.6, y + 16.4), (x + 31, y + 16.4))
    heat(axes, covariance, x + 32, y + 10.2, 12.6, GREEN)
    axes.text(x + 38.3, y + 9.3, "C: 256×256", **size)
    caption(
        axes,
        x + 2,
        y + 5.4,
        "How channels vary together over the face, rather than their mean.\n"
        "The ridge, λ = 10⁻⁴, keeps every eigenvalue above zero.",
    )


def draw_bimap(axes, x, y, covariance):
    heading(axes, x + 3.4, y + 32, 2, "BiMap", r"$X=W^{\top}C\,W,\quad W^{\top}W=I$")
    w, projected = bimap(covariance, 8)
    size = {"ha": "center", "va": "top", "fontsize": 7.8}
    middle = y + 17.2
    grid(axes, x + 2.2, middle - 2.9, 11.6, 5.8, 8, 16, w.T, VIOLET)
    axes.text(x + 8, middle - 4.2, "Wᵀ: 128×256", **size)
    heat(axes, covariance, x + 15, middle - 5.8, 11.6, GREEN)
    axes.text(x + 20.8, middle - 6.9, "C: 256×256", **size)
    grid(axes, x + 27.8, middle - 5.8, 5.8, 11.6, 16, 8, w, VIOLET)
    axes.text(x + 30.7, middle - 6.9, "W: 256×128", **size)
    axes.text(x + 36.1, middle, "=", fontsize=13, ha="center", va="center")
    heat(axes, projected, x + 38.6, middle - 2.9, 5.8, GREEN)
    axes.text(x + 41.5, middle - 4.2, "X: 128×128", **size)
    caption(
        axes,
        x + 2,
        y + 5.4,
        "A learnt projection that leaves the matrix symmetric and positive definite.\n"
        "W's columns stay orthonormal: it moves on the Stiefel manifold.",
    )


def inset(figure, axes, x, y, width, height):
    """Axes for a plot, placed in the drawing's own units."""
    total = axes.get_ylim()[1]
    plot = figure.add_axes((x / 100, y / total, width / 100, height / total), facecolor="none")
    plot.spines[["top", "right"]].set_visible(False)
    plot.spines[["left", "bottom"]].set_color(MUTED)
    plot.tick_params(colors=MUTED, labelsize=7.5, length=2.5, width=0.8)
    plot.xaxis.label.set(color=MUTED, fontsize=8)
    plot.yaxis.label.set(color=MUTED, fontsize=8)
    return plot


def draw_reeig(figure, axes, x, y):
    heading(axes, x + 3.4, y + 32, 3, "ReEig", r"$U\,\mathrm{diag}(\min(\max(s_i,10^{-4}),10^{4}))\,U^{\top}$")
    plot = inset(figure, axes, x + 8.5, y + 11.8, 35.5, 13.2)
    index = np.arange(1, 129)
    spectrum = 10 ** (1.6 - 7.4 * ((index - 1) / 127) ** 1.25)
    plot.semilogy(index, spectrum, color=MUTED, lw=1.4, ls=(0, (4, 2)), label="before")
    plot.semilogy(index, np.maximum(spectrum, 1e-4), color=GREEN, lw=2.2, label="after")
    plot.axhline(1e-4, color=ORANGE, lw=1)
    plot.text(3, 1.5e-4, "floor 10⁻⁴", color=ORANGE, fontsize=8, va="bottom")
    plot.set(xlabel="eigenvalue, by size", ylabel="s", xlim=(0, 129), xticks=(1, 32, 64, 96, 128), ylim=(5e-7, 3e2))
    plot.set_yticks((1e-6, 1e-4, 1e-2, 1, 1e2), ("10⁻⁶", "10⁻⁴", "10⁻²", "1", "10²"))
    plot.minorticks_off()
    plot.legend(frameon=False, fontsize=8, loc="upper right")
    caption(
        axes,
        x + 2,
        y + 5.4,
        "The ReLU of matrices: eigenvalues below the floor are raised to it.\n"
        "Eigenvectors U are kept; a ceiling of 10⁴ guards the other end.",
    )


def draw_logeig(figure, axes, x, y):
    heading(axes, x + 3.4, y + 32, 4, "LogEig", r"$U\,\mathrm{diag}(\log s_i)\,U^{\top}$")
    plot = inset(figure, axes, x + 8.5, y + 11.8, 35.5, 13.2)
    values = np.linspace(0.03, 8, 400)
    plot.plot(values, np.log(values), color=GREEN, lw=2.2)
    for value in (0.06, 0.25, 1.0, 3.0, 7.0):
        plot.plot((value, value, 0), (-4, np.log(value), np.log(value)), color=VIOLET, lw=0.9, ls=(0, (2, 2)))
        plot.plot(value, np.log(value), "o", color=VIOLET, ms=4)
    plot.axhline(0, color=RULE, lw=0.8, zorder=0)
    plot.set(xlabel="eigenvalue s", ylabel="log s", xlim=(0, 8), ylim=(-3.6, 2.6))
    plot.set_yticks((-3, -2, -1, 0, 1, 2), ("−3", "−2", "−1", "0", "1", "2"))
    caption(
        axes,
        x + 2,
        y + 5.4,
        "From the curved space of positive definite matrices to a flat one,\n"
        "where flattening and a fully connected layer make sense.",
    )


def draw_spd_layers():
    figure, axes = canvas(75)
    for x, y in ((1, 38.5), (51, 38.5), (1, 1), (51, 1)):
        axes.add_patch(
            FancyBboxPatch((x, y), 48, 35.5, boxstyle="round,pad=0,rounding_size=1.2", fc="white", ec=RULE, lw=1)
        )
    features, covariance = covariance_of_features()
    draw_pooling(axes, 1, 38.5, features, covariance)
    draw_bimap(axes, 51, 38.5, covariance)
    draw_reeig(figure, axes, 1, 1)
    draw_logeig(figure, axes, 51, 1)
    write(figure, "spd-layers.svg")


if __name__ == "__main__":
    with matplotlib.rc_context(STYLE):
        draw_network()
        draw_spd_layers()
