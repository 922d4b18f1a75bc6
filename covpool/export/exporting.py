"""Makes `model.onnx` and `MODEL_CARD.md` of a trained network, and refuses one that disagrees with TensorFlow."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covpool.export import agreement, card, deletion
from covpool.pipeline import artifacts
from covpool.pipeline.arrays import read_array
from covpool.pipeline.project import ROOT, TF_LAUNCHER
from covpool.predict.model import FORMAT, METADATA_KEY, Model

MODEL_FILE, CARD_FILE, RECORD_FILE = "model.onnx", "MODEL_CARD.md", "export.json"
#: The module that runs under TensorFlow.
READER = "covpool.export.weights"
#: Faces that the export scores at once, and how often it times one face.
BATCH, TIMED = 16, 20
#: What a network without a data set is compared on: seeded noise of all brightnesses.
SAMPLE, SAMPLE_SEED = 32, 666


class ExportError(RuntimeError):
    """A network can't be exported; the message says why and what to do."""


@dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
        arguments: of the reading program: --model FOLDER, or --checkpoint PREFIX --network NAME --normalisation RULE.
        class_names: in the order of the logits.
        crop: `detector`, `size`, `margin`, `min_score` of the pictures that the network was trained on.
        weights: `float32` or `float16`, of the kernel of fc_1.
        faces: folder of the normalised data set, whose val split is scored; None: a fixed sample of noise.
        context: what the model card says beyond this.
        environment: of the reading program, which names the TensorFlow; None: this process's.
    """

    arguments: tuple[str, ...]
    class_names: tuple[str, ...]
    crop: dict
    weights: str = "float32"
    faces: Path | None = None
    context: dict = field(default_factory=dict)
    environment: dict | None = None


def export(request: Request, target: Path) -> dict:
    """Export a network to `target`: `model.onnx` and `MODEL_CARD.md`, or no model if it disagrees with TensorFlow.

    Args:
        request: what to export.
        target: folder; an older model in it is removed first.

    Returns:
        The record: `exported`, `reasons`, and the figures of the comparison, times and sizes.

    Raises:
        ExportError: the weights can't be read.
    """
    from covpool.export import onnx_graph

    target.mkdir(parents=True, exist_ok=True)
    for name in (MODEL_FILE, CARD_FILE, RECORD_FILE):
        (target / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=target) as folder:
        faces = _faces(request, Path(folder))
        weights, network, reference = _read(request, faces, Path(folder))
        if network["num_classes"] != len(request.class_names):
            raise ExportError(
                f"expected names for the {network['num_classes']} classes of the checkpoint, got "
                f"{len(request.class_names)} ({', '.join(request.class_names)})"
            )
        draft = Path(folder) / MODEL_FILE
        metadata = _metadata(request, network)
        model = onnx_graph.build(weights, network, network["num_classes"], request.weights == "float16")
        save(model, metadata, draft)
        images = _middle(read_array(faces), network["image_size"])
        session = Model(draft)
        figures, reasons = agreement.compare(_score(session, images), reference, network)
        record = {
            "exported": not reasons,
            "reasons": reasons,
            "weights": request.weights,
            "compared_on": "val" if request.faces else "noise",
            **figures,
            "bytes": draft.stat().st_size,
            "parameters": network["parameters"],
            **_times(session, images),
        }
        if not reasons and request.faces and session.has_matrices:
            record["deletion"] = deletion.scores(session, images)
        if not reasons:
            metadata["agreement"] = figures
            save(model, metadata, draft)
            draft.replace(target / MODEL_FILE)
    artifacts.write_json(target / RECORD_FILE, record)
    with artifacts.atomic_file(target / CARD_FILE) as stream:
        stream.write(card.text(metadata, network, record, request.context))
    return record


def _faces(request, folder):
    """The file of the faces to compare on."""
    if request.faces is not None:
        path = request.faces / "val.npy"
        if path.is_file():
            return path
        raise ExportError(f"{path} is missing: run the stage normalise, whose val split the export compares on")
    size = request.crop["size"]
    generator = np.random.default_rng(SAMPLE_SEED)
    # Smoothed noise: the covariance of a face's features is not that of white noise.
    coarse = generator.integers(0, 256, [SAMPLE, -(-size // 10), -(-size // 10), 3], np.uint8)
    np.save(folder / "noise.npy", coarse.repeat(10, 1).repeat(10, 2)[:, :size, :size])
    return folder / "noise.npy"


def _read(request, faces, folder):
    command = [TF_LAUNCHER, "-m", READER, *request.arguments, "--faces", faces.resolve(), "--out", folder.resolve()]
    run = subprocess.run(
        [str(part) for part in command], stderr=subprocess.PIPE, text=True, env=request.environment, check=False
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["it said nothing"]
        sentence = next((line for line in reversed(lines) if line.startswith("export: ")), lines[-1])
        raise ExportError(sentence.removeprefix("export: "))
    weights = dict(np.load(folder / "weights.npz", allow_pickle=False))
    reference = dict(np.load(folder / "scores.npz", allow_pickle=False))
    return weights, artifacts.read_json(folder / "network.json"), reference


def _metadata(request, network):
    template = _template(network["image_size"])
    return {
        "format": FORMAT,
        "class_names": list(request.class_names),
        "image_size": network["image_size"],
        "crop": {**request.crop, "template": template},
        "network": network["network"],
        "spd": network["spd"],
        "logarithm_lowest": network.get("logarithm", {}).get("lowest"),
        "agreement": {},
        "revision": _revision(),
        "data_hash": artifacts.faces_hash(request.faces) if request.faces else None,
        "weights": request.weights,
    }


def _template(size):
    """Where the five landmarks lie in a crop, in pixels."""
    from covpool.faces import geometry

    return np.round(geometry.template_points(size, 0), 4).tolist()


def _revision():
    """The commit of the code, with `+` if files differ from it; None outside of Git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def save(model, metadata: dict, path: Path) -> None:
    """Write an ONNX model with a description of itself (`Model.metadata`), whole or not at all."""
    import onnx

    del model.metadata_props[:]
    text = json.dumps(metadata, ensure_ascii=False, sort_keys=True)
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    with artifacts.atomic_file(path, "wb") as stream:
        stream.write(model.SerializeToString(deterministic=True))


def _middle(images, size):
    """The middle of pictures [n, h, w, 3], as scoring takes it."""
    top, left = (images.shape[1] - size) // 2, (images.shape[2] - size) // 2
    return images[:, top : top + size, left : left + size]


def _score(session, images):
    parts = [session(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _times(session, images):
    """Median milliseconds per face, alone and in a batch."""
    times = {}
    for count in (1, BATCH):
        batch = np.ascontiguousarray(np.resize(images[:count], (count, *images.shape[1:])))
        session(batch)
        seconds = []
        for _ in range(TIMED // count + 4):
            start = time.perf_counter()
            session(batch)
            seconds.append(time.perf_counter() - start)
        times[f"ms_per_face_batch_{count}"] = round(1000 * float(np.median(seconds)) / count, 2)
    return times
