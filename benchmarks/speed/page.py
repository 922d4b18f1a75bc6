"""docs/speed.md and its figures, made from benchmarks/results.json alone."""

import jinja2
import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402

from benchmarks.speed.measurements import TRACES  # noqa: E402
from benchmarks.speed.sides import DEFAULT_BUILD  # noqa: E402

OURS, OTHERS = "#1b7f79", "#9aa5b1"
STYLE = {"font.size": 9, "svg.hashsalt": "covpool", "axes.spines.top": False, "axes.spines.right": False}


def write(results, root):
    """results: the content of results.json; root: of the project."""
    figures = root / "docs" / "figures"
    with matplotlib.rc_context(STYLE):
        cores = max(results["steps"], key=int)
        _bars(figures / "speed-steps.svg", results["steps"], cores)
        _profile(figures / "speed-profile.svg", results["steps"][cores]["profile"])
    loader = jinja2.FileSystemLoader(root / "benchmarks" / "speed")
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("speed.md.j2").render(
        results,
        results=results,
        cores=cores,
        build=DEFAULT_BUILD,
        goals=goals(results),
        work={name: work(results["steps"][cores], name) for name in (DEFAULT_BUILD, "tf2")},
        gib=lambda size: size / 2**30,
        traces=TRACES,
        one_core=one_core(results["steps"]["1"]),
    )
    (root / "docs" / "speed.md").write_text(text.rstrip() + "\n")


def over_peers(found):
    """[(what, its ratio as a function of a side, the limit)] of the step's seconds; found: of `training_steps`."""
    steps, bound = found["steps"], found["bound"]["seconds"]

    def seconds(name):
        return steps[name]["median"]

    # Of the two logarithms the faster.
    plain, tuned = (
        min(seconds(f"pytorch, {how}, {each}") for each in ("fused", "textbook")) for how in ("plain", "tuned")
    )
    return [
        ("a step, over the textbook graph's", lambda me: seconds(me) / seconds("textbook"), 0.40),
        ("a step, over PyTorch's, allocator tuned", lambda me: seconds(me) / tuned, 0.90),
        ("a step, over PyTorch's, plain", lambda me: seconds(me) / plain, 0.60),
        ("a step, over the time of its arithmetic", lambda me: seconds(me) / bound, 1.10),
    ]


def one_core(found):
    """The same ratios where there is one core: rows of what, the default build's and tf2's."""
    return [(what, of(f"ours, {DEFAULT_BUILD}"), of("ours, tf2")) for what, of, _ in over_peers(found)]


def goals(results):
    """Rows of what the project wants of its speed: what, the value on the default build and on tf2, and the limit."""
    cores = max(results["steps"], key=int)
    steps, scoring = results["steps"][cores]["steps"], results["scoring"]
    latency = min(scoring[name]["1"]["median"] for name in ("pytorch, plain", "pytorch, tuned"))
    measures = (
        *over_peers(results["steps"][cores]),
        (
            "peak memory, over the textbook graph's",
            lambda me: steps[me]["peak_anonymous_bytes"] / steps["textbook"]["peak_anonymous_bytes"],
            0.75,
        ),
        ("share of a step that waits for data", lambda me: results["waits"][me.split(", ")[1]]["share"], 0.02),
        ("one picture scored, over PyTorch's time", lambda me: scoring[me]["1"]["median"] / latency, 1.0),
        ("start-up of train (s)", lambda me: results["start_ups"]["train" + me[len("ours") :]]["median"], 6.0),
        ("start-up of evaluate (s)", lambda me: results["start_ups"]["evaluate" + me[len("ours") :]]["median"], 6.0),
    )
    return [
        {"what": what, "default": value(f"ours, {DEFAULT_BUILD}"), "tf2": value("ours, tf2"), "limit": limit}
        for what, value, limit in measures
    ]


def work(found, build):
    """What a step's time went into: `counted`, rows of the arithmetic that its bound counts, and `other` work, seconds;
    `passes`, the share of the latter that batch normalisation and maxima have.

    found: of `measurements.training_steps`. A row has its kind, FLOP, seconds, and its speed over that of the machine's
    matrix products.
    """
    flops, rate = found["bound"]["flops"], max(found["bound"]["rates"].values())
    seconds = {row["kind"]: row["milliseconds"] / 1e3 for row in found["profile"][build]}
    counted = [
        {"kind": kind, "flops": count, "seconds": seconds[kind], "speed": count / seconds[kind] / rate}
        for kind, count in sorted(flops.items(), key=lambda pair: -pair[1])
        if kind in seconds
    ]
    in_counted = sum(row["seconds"] for row in counted)
    other = sum(seconds.values()) - in_counted
    passes = (seconds["batch normalisation"] + seconds["max pooling"]) / other
    return {"counted": counted, "in_counted": in_counted, "other": other, "passes": passes}


def _bars(path, by_cores, cores):
    """Seconds a step of every side, by number of cores; the time of the arithmetic as a line."""
    names = sorted(by_cores[cores]["steps"], key=lambda name: by_cores[cores]["steps"][name]["median"])
    size = {"figsize": (9.5, 3.2), "layout": "constrained"}
    figure, panels = plt.subplots(1, len(by_cores), sharey=True, squeeze=False, **size)
    for axes, number in zip(panels[0], sorted(by_cores, key=int, reverse=True), strict=True):
        steps, bound = by_cores[number]["steps"], by_cores[number]["bound"]["seconds"]
        medians = [steps[name]["median"] for name in names]
        spread = [
            [steps[name]["median"] - steps[name]["least"] for name in names],
            [steps[name]["most"] - steps[name]["median"] for name in names],
        ]
        colors = [OURS if name.startswith("ours") else OTHERS for name in names]
        axes.barh(names, medians, xerr=spread, color=colors, ecolor="#52606d", capsize=2)
        axes.axvline(bound, color="#d64545", lw=1, ls="--")
        axes.text(bound, -0.85, " its arithmetic", color="#d64545", fontsize=8, va="center")
        # The fastest at the top, and room for the words above it.
        axes.set(xlabel="seconds a step", title=f"{number} core" + "s" * (number != "1"), ylim=(len(names) - 0.4, -1.2))
    _save(figure, path)


def _profile(path, profiles):
    """Where a step's time goes, a stacked bar a build."""
    builds = [build for build in ("tf2", DEFAULT_BUILD, "stock") if build in profiles]
    kinds = [row["kind"] for row in profiles[DEFAULT_BUILD]][:10]
    figure, axes = plt.subplots(figsize=(9.5, 3.2), layout="constrained")
    colors = matplotlib.colormaps["tab20"].colors
    left = dict.fromkeys(builds, 0.0)
    for kind, color in zip([*kinds, "the rest"], colors):
        for build in builds:
            rows = profiles[build]
            time = (
                sum(
                    row["milliseconds"]
                    for row in rows
                    if row["kind"] == kind or (kind == "the rest" and row["kind"] not in kinds)
                )
                / 1e3
            )
            axes.barh(build, time, left=left[build], color=color, label=kind if build == builds[0] else None)
            left[build] += time
    axes.set(xlabel="seconds")
    axes.invert_yaxis()
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    _save(figure, path)


def _save(figure, path):
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
