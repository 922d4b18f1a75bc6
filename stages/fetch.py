"""Stage fetch: brings the data set's pictures to data/raw, by split and class, with a manifest."""

import os
from pathlib import Path

from covpool.datasets import DatasetError, fetch
from covpool.pipeline import artifacts
from covpool.pipeline.process_pool import WorkerDied
from covpool.pipeline.progress import DownloadBar, ProgressBar
from covpool.pipeline.stage_frame import stage

if __name__ == "__main__":
    # Experiments that DVC runs in a copy of the project share the downloads that the project has.
    project = Path(os.environ.get("DVC_ROOT", "."))
    with stage("fetch", DatasetError, WorkerDied, lock="fetch") as params:
        with ProgressBar("fetch", "picture") as progress, DownloadBar("download") as downloaded:
            rows = fetch(
                params.dataset,
                artifacts.RAW,
                downloads=project / ".covpool" / "downloads",
                progress=progress,
                downloaded=downloaded,
                say=lambda text: progress.say("fetch: " + text),
            )
        counts = [f"{sum(row['split'] == split for row in rows)} {split}" for split in artifacts.SPLITS]
        print(f"fetch: {len(rows)} pictures ({', '.join(counts)})")
