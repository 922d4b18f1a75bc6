"""Stage fetch: brings the data set's pictures to data/raw, by split and class, with a manifest."""

from covpool import artifacts
from covpool.datasets import DatasetError, fetch
from covpool.stage import ProgressBar, stage

if __name__ == "__main__":
    with stage("fetch", DatasetError, OSError) as params, ProgressBar("fetch", "picture") as progress:
        rows = fetch(params.dataset, artifacts.RAW, progress=progress, say=lambda text: progress.say("fetch: " + text))
        counts = ["{} {}".format(sum(row["split"] == split for row in rows), split) for split in artifacts.SPLITS]
        print("fetch: {} pictures ({})".format(len(rows), ", ".join(counts)))
