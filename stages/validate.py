"""Stage validate: decodes every picture of data/raw; lists which can be used, why others can't, and duplicates."""

from covpool import artifacts
from covpool.processes import WorkerDied
from covpool.stage import ProgressBar, stage
from covpool.validation import ValidationError, describe, validate

if __name__ == "__main__":
    with stage("validate", ValidationError, WorkerDied, artifacts.ArtifactError) as params:
        with ProgressBar("validate", "picture") as progress:
            counts = validate(artifacts.RAW, artifacts.VALIDATED, params.validate, params.dataset.classes, progress)
        for split, row in counts.items():
            print("validate: {}: {}".format(split, describe(row)))
