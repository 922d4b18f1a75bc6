"""Stage normalise: finds the face in every usable picture, turns it upright and cuts it out."""

import os
from pathlib import Path

from covpool.faces import DetectorMissing, NormaliseError, PictureError, describe, normalise_dataset
from covpool.pipeline import artifacts
from covpool.pipeline.process_pool import WorkerDied
from covpool.pipeline.progress import ProgressBar
from covpool.pipeline.stage_frame import stage

if __name__ == "__main__":
    # Experiments that DVC runs in a copy of the project share the detections that the project has.
    project = Path(os.environ.get("DVC_ROOT", "."))
    errors = (DetectorMissing, NormaliseError, PictureError, WorkerDied)
    with stage("normalise", *errors, lock="normalise") as params, ProgressBar("normalise", "picture") as progress:
        options = params.normalise
        counts = normalise_dataset(
            artifacts.VALIDATED / "manifest.csv",
            artifacts.RAW,
            artifacts.FACES,
            artifacts.SHEETS,
            classes=params.dataset.classes,
            detector=options.detector,
            size=options.size,
            margin=options.margin,
            min_score=options.min_score,
            fallback=options.fallback,
            cache=project / ".covpool" / "detections",
            scheduler=options.scheduler,
            progress=progress,
        )
        artifacts.write_json(artifacts.NORMALISE_COUNTS, counts)
        for split, row in counts.items():
            print(f"normalise: {split}: {describe(row['all'])}")
