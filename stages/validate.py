"""Stage validate: decodes every picture of data/raw; lists which can be used, why others can't, and duplicates."""

from covpool.pipeline import artifacts
from covpool.pipeline.process_pool import WorkerDied
from covpool.pipeline.progress import ProgressBar
from covpool.pipeline.stage_frame import stage
from covpool.validation import ValidationError, describe, validate

if __name__ == "__main__":
    with stage("validate", ValidationError, WorkerDied, lock="validate") as params:
        with ProgressBar("validate", "picture") as progress:
            counts = validate(artifacts.RAW, artifacts.VALIDATED, params.validate, params.dataset.classes, progress)
        for split, row in counts.items():
            print(f"validate: {split}: {describe(row)}")
