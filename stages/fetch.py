"""Stage fetch: brings the data set's pictures to data/raw, by split and class, with a manifest."""

import os
from pathlib import Path

from covpool.datasets import DatasetError, fetch
from covpool.pipeline import artifacts
from covpool.pipeline.stage_frame import DownloadBar, ProgressBar, stage

if __name__ == "__main__":
    # Experiments that DVC runs in a copy of the project share the downloads that the project has.
    project = Path(os.environ.get("DVC_ROOT", "."))
    with stage("fetch", DatasetError, OSError) as params:
        with ProgressBar("fetch", "picture") as progress, DownloadBar("download") as downloaded:
            rows = fetch(
                params.dataset,
                artifacts.RAW,
                downloads=project / ".covpool" / "downloads",
                progress=progress,
                downloaded=downloaded,
                say=lambda text: progress.say("fetch: " + text),
            )
        counts = ["{} {}".format(sum(row["split"] == split for row in rows), split) for split in artifacts.SPLITS]
        print("fetch: {} pictures ({})".format(len(rows), ", ".join(counts)))
