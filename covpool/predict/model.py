"""An exported network in onnxruntime, and what its file says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from covpool.pipeline.cores import usable_cores

#: Key of the file's metadata that holds everything as one JSON document.
METADATA_KEY = "covpool"
#: Version of that document.
FORMAT = 1
#: Keys that a document of this version has.
METADATA = ("format", "class_names", "image_size", "crop", "network", "spd", "agreement", "revision", "data_hash")


class ModelError(ValueError):
    """A file is not a network that `covpool export` wrote, or can't be read; the message says what to do."""


class Model:
    """A network in onnxruntime. One object may be used by several threads at once.

    Attributes:
        class_names: names of the classes, in the order of the scores.
        image_size: side of the input in pixels.
        metadata: all that the file says about itself.
        has_matrices: whether the network has `bimap`, `logeig` and `positions`.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        """Load a network.

        Args:
            path: of a `model.onnx`.
            threads: that compute one batch; 0: one per core that this process may use.

        Raises:
            ModelError: the file is missing, damaged, or not one of ours.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError(f"{self.path}: no such file. `covpool export --help` says how to make a model.onnx.")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Threads that wait would spin on the cores that detection and decoding need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        # onnxruntime raises classes of its own for each kind of damage.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{self.path}: expected an ONNX file that `covpool export` wrote; onnxruntime can't load it "
                f"({reason}). Export it again."
            ) from None
        self.metadata = self._read_metadata()
        self.class_names: tuple[str, ...] = tuple(self.metadata["class_names"])
        self.image_size: int = self.metadata["image_size"]
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        if outputs.get("probabilities", [None])[-1] != len(self.class_names):
            raise ModelError(
                f"{self.path}: expected scores of the {len(self.class_names)} classes that the file names "
                f"({', '.join(self.class_names)}), got {outputs.get('probabilities', [None])[-1]}. Export it again."
            )
        self.has_matrices = "bimap" in outputs

    def _read_metadata(self) -> dict:
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")
        try:
            content = json.loads(text)
            missing = [key for key in METADATA if key not in content]
        except (ValueError, TypeError):
            content, missing = {}, ["its description"]
        if missing or content["format"] != FORMAT:
            lacks = f"lacks {', '.join(missing)}" if missing else f"has format {content['format']}, not {FORMAT}"
            raise ModelError(
                f"{self.path}: expected an ONNX file that `covpool export` of this version wrote; it {lacks}. "
                "Export the network again."
            )
        return content

    def __call__(self, faces: np.ndarray, outputs: tuple[str, ...] = ("probabilities", "logits")) -> dict:
        """Score faces.

        Args:
            faces: uint8 [n, image_size, image_size, 3], RGB, aligned; n may be 0.
            outputs: of `probabilities`, `logits`, `embeddings`, `bimap`, `logeig`, `positions`.

        Returns:
            {output: float32 array [n, ...]}.
        """
        found = self._session.run(list(outputs), {"faces": np.ascontiguousarray(faces)})
        return dict(zip(outputs, found, strict=True))
