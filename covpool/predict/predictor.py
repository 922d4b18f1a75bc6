"""From a picture to the expressions of its faces, in one call."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from covpool.faces import detectors, geometry
from covpool.images import opener
from covpool.predict.model import Model

#: Side in pixels of the smallest face that is looked for.
MIN_FACE = 40
#: Faces that are scored at once.
BATCH = 16
#: What becomes of a picture without a face.
FALLBACKS = ("none", "center")
#: Outputs of the network that explain a decision.
MATRICES = ("bimap", "logeig", "positions")

BoxT = tuple[float, float, float, float]


class InputError(ValueError):
    """A picture, video or option can't be used; the message says why."""


@dataclass(frozen=True)
class Finding:
    """A face before it is scored.

    Attributes:
        box: x, y, width, height in pixels of the picture.
        points: [5, 2], left eye, right eye, nose, left and right corner of the mouth, in pixels; None: not looked for
            (`fallback` center).
        score: of the detector, from 0 to 1; 0.0 for the fallback.
        crop: uint8 [size, size, 3], aligned, what the network sees.
    """

    box: BoxT
    points: np.ndarray | None
    score: float
    crop: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Explanation:
    """Where the evidence for a class lies.

    Attributes:
        class_name: the class that is explained.
        map: float32 [rows, columns] over the crop (12x12 for crops of 100 pixels): each position's share of
            `difference`; positive speaks for the class.
        difference: how much higher the class's logit is than that of the same features without correlation.
        completeness_error: |sum of the map - difference|, as a share of |difference|, or of 1 if that is larger.
    """

    class_name: str
    map: np.ndarray = field(repr=False)
    difference: float
    completeness_error: float


@dataclass(frozen=True)
class Face(Finding):
    """A face and its expression.

    Attributes:
        expression: name of the most probable class.
        probabilities: {class name: probability}, in the order of the classes; they sum to 1.
        logits: float32 [classes].
        bimap, logeig: float32 [128, 128], the covariance matrix of the face before and after the logarithm, if asked
            for and if the network has them.
        explanation: if asked for.
    """

    expression: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    logits: np.ndarray = field(default=None, repr=False)
    bimap: np.ndarray | None = field(default=None, repr=False)
    logeig: np.ndarray | None = field(default=None, repr=False)
    explanation: Explanation | None = None


class Predictor:
    """Finds the faces of a picture, aligns them as in training, and scores them.

    One object may be used by several threads at once: the network is shared, and each thread has a detector of its own.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        min_face: float = MIN_FACE,
        min_score: float | None = None,
        fallback: str = "none",
        threads: int = 0,
        batch: int = BATCH,
    ) -> None:
        """Load a network.

        Args:
            model: path of a `model.onnx`, or a `Model`.
            min_face: side of the smallest face to look for, in pixels.
            min_score: a face less certain than this counts as not found; None: as in training.
            fallback: for a picture without a face: `none`: no result; `center`: score its middle, as in training.
            threads: that compute one batch; 0: one per core that this process may use.
            batch: faces that are scored at once.

        Raises:
            ModelError: the model can't be read.
            InputError: an option has a wrong value.
            DetectorMissing: the package of the detector is not installed.
        """
        for name, value, right, expected in (
            ("min_face", min_face, min_face >= 1, "1 or more"),
            ("batch", batch, batch >= 1, "1 or more"),
            ("fallback", fallback, fallback in FALLBACKS, f"one of {', '.join(FALLBACKS)}"),
            ("min_score", min_score, min_score is None or 0 <= min_score <= 1, "None or 0 to 1"),
        ):
            if not right:
                raise InputError(f"{name}: expected {expected}, got {value!r}")
        self.model = model if isinstance(model, Model) else Model(model, threads)
        crop = self.model.metadata["crop"]
        self.min_face, self.fallback, self.batch = min_face, fallback, batch
        self.min_score = crop["min_score"] if min_score is None else min_score
        self._margin = crop["margin"]
        self._detector = crop["detector"] if crop["detector"] in detectors.DETECTORS else "mtcnn"
        self._aligned = crop["detector"] == "none"
        self._explainer = None
        detectors.shared(self._detector)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.model.class_names

    def __call__(self, picture: str | Path | bytes | np.ndarray, **options: bool) -> list[Face]:
        """Score the faces of a picture; see `predict`."""
        return self.predict(picture, **options)

    def predict(
        self, picture: str | Path | bytes | np.ndarray, explain: bool = False, matrices: bool = False
    ) -> list[Face]:
        """Score the faces of a picture.

        Args:
            picture: path of a photo, the bytes of one, or uint8 [h, w, 3] RGB.
            explain: also say where in each crop the evidence for its class lies.
            matrices: also return `bimap` and `logeig` of each face.

        Returns:
            The faces, the most plausible first; an empty list if there is none.

        Raises:
            PictureError: the picture can't be read.
            OSError: the file can't be read.
            InputError: the array is not a picture, or the network can't be explained.
        """
        return self.score(self.find(as_pixels(picture)), explain, matrices)

    def find(self, pixels: np.ndarray) -> list[Finding]:
        """Find and align all faces of a picture.

        Args:
            pixels: uint8 [h, w, 3] RGB.
        """
        # Several pictures may be worked on at once; threads within one would only get in each other's way.
        cv2.setNumThreads(1)
        found = detectors.detect_all(pixels, detectors.shared(self._detector), self.min_face)
        findings = [
            Finding(face.box, face.landmarks, face.score, self.crop(pixels, face.landmarks))
            for face in found
            if face.score >= self.min_score
        ]
        if not findings and self.fallback == "center":
            height, width = pixels.shape[:2]
            side = float(min(height, width))
            box = ((width - side) / 2, (height - side) / 2, side, side)
            matrix = geometry.box_transform(box, self.model.image_size, 0)
            crop = geometry.warp(pixels, matrix, (self.model.image_size, self.model.image_size))
            findings = [Finding(box, None, 0.0, crop)]
        return findings

    def crop(self, pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Cut out the face at five landmarks [5, 2], aligned: uint8 [size, size, 3], as the network was trained on."""
        side, margin = self.model.image_size, self._margin
        return geometry.align(pixels, points, side, margin)[margin : margin + side, margin : margin + side]

    def score(self, findings: list[Finding], explain: bool = False, matrices: bool = False) -> list[Face]:
        """Score faces that `find` found, in batches. See `predict`."""
        if (explain or matrices) and not self.model.has_matrices:
            if explain:
                raise InputError(
                    f"{self.model.path}: the explanation needs a network with a covariance matrix; this one was "
                    "trained with network.pooling: average"
                )
            matrices = False
        outputs = ("probabilities", "logits") + (MATRICES if explain or matrices else ())
        faces = []
        for start in range(0, len(findings), self.batch):
            part = findings[start : start + self.batch]
            found = self.model(np.stack([finding.crop for finding in part]), outputs)
            for place, finding in enumerate(part):
                faces.append(self._face(finding, {name: value[place] for name, value in found.items()}, explain))
        return faces

    def _face(self, finding: Finding, found: dict, explain: bool) -> Face:
        best = int(found["probabilities"].argmax())
        explanation = None
        if explain:
            explanation = self._explain(found["bimap"], found["positions"], best)
        return Face(
            finding.box,
            finding.points,
            finding.score,
            finding.crop,
            self.class_names[best],
            dict(zip(self.class_names, found["probabilities"].tolist(), strict=True)),
            found["logits"],
            found.get("bimap"),
            found.get("logeig"),
            explanation,
        )

    def _explain(self, bimap: np.ndarray, positions: np.ndarray, target: int) -> Explanation:
        # Imported late: reading the weights takes a fraction of a second that other calls need not spend.
        from covpool.predict.explanation import Explainer

        if self._explainer is None:
            self._explainer = Explainer(self.model)
        found = self._explainer(bimap, positions, target)
        return Explanation(self.class_names[target], found.map, found.difference, found.completeness_error)


def as_pixels(picture: str | Path | bytes | np.ndarray) -> np.ndarray:
    """A picture as uint8 [h, w, 3] RGB, from a path, bytes, or such an array."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise InputError(f"expected a picture as uint8 [h, w, 3], got {picture.dtype} {list(picture.shape)}")
        return picture
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return opener.decode_picture(bytes(picture), "picture")
    path = Path(os.fspath(picture))
    return opener.decode_picture(path.read_bytes(), str(path))
