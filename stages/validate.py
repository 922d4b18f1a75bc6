"""Stage validate: decodes every picture of data/raw and lists which can be used, and why the others can't."""

from covpool import artifacts
from covpool.processes import WorkerDied
from covpool.stage import ProgressBar, stage
from covpool.validation import ValidationError, validate

if __name__ == "__main__":
    with stage("validate", ValidationError, WorkerDied, artifacts.ArtifactError) as params:
        with ProgressBar("validate", "picture") as progress:
            counts = validate(
                artifacts.RAW,
                artifacts.VALIDATED / "manifest.csv",
                artifacts.VALIDATED / "counts.json",
                params.validate,
                params.dataset.classes,
                progress,
            )
        for split, row in counts.items():
            print("validate: {}: {} pictures, {} of them bad".format(split, row["pictures"], row["bad"]))
