"""`make back`: the parameters and results of the last commit again, after experiments, without training.

An experiment leaves its parameters in params.yaml and its results in the workspace. DVC's cache of runs still has the
results of earlier parameters. This program brings them back if they are all there. If not, it removes what the
experiment left, so that the workspace is as in a fresh clone, and says which command makes the results.
"""

import contextlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import List

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import Stage

from covpool.config import PARAMS_FILE
from covpool.pipeline import artifacts

LOCK = Path("dvc.lock")
#: What `dvc exp run` changes in the workspace. Git need not have all of them.
CHANGED = (PARAMS_FILE, LOCK, artifacts.REPORTS / "metrics.json")
#: Stages that take a second, and that may be run: they never train.
QUICK = ("check", "report")


def main() -> None:
    """Put the workspace back and print one sentence about what is there now. Run it in the project's root."""
    # DVC would report each stage and advise on Git; one sentence at the end says all.
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        _restore_files()
        done = restore_results()
    except subprocess.CalledProcessError as error:
        sys.exit(f"back: Git could not restore {PARAMS_FILE}: {error.stderr.strip()}")
    except DvcException as error:
        sys.exit(f"back: DVC could not restore the results: {error}")
    if done:
        print(f"back: {PARAMS_FILE} and the results are those of the last commit again.")
    else:
        print(
            f"back: {PARAMS_FILE} is that of the last commit. Its results are not in this project's cache: run "
            "`make repro` to make them."
        )


def _restore_files() -> None:
    """`git checkout` of what an experiment changes, where Git has it."""
    _git("checkout", "HEAD", "--", *_committed())


def _committed() -> List[str]:
    return _git("ls-tree", "--name-only", "HEAD", *map(str, CHANGED)).splitlines()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def restore_results() -> bool:
    """Bring the results of params.yaml back from DVC's cache.

    Returns:
        True if all results are there. False if a slow stage would have to run; then the outputs of all stages are
        removed, and so is a dvc.lock that Git does not have.
    """
    with Repo() as repo, lock_repo(repo):
        stages = plan_repro(get_active_graph(repo.index.graph))
        if all(_restore(repo, stage) for stage in stages):
            return True
        for stage in stages:
            stage.remove_outs()
    if str(LOCK) not in _committed():
        with contextlib.suppress(FileNotFoundError):
            LOCK.unlink()
    # The headline metrics are an output that Git has.
    _restore_files()
    return False


def _restore(repo: Repo, stage: Stage) -> bool:
    """Bring one stage's outputs back, or run it if it is quick; False if neither is possible."""
    if not stage.changed():
        return True
    stage.remove_outs()
    try:
        repo.stage_cache.restore(stage)
    except DvcException:
        if stage.name not in QUICK:
            return False
    # Finds in the cache what was just restored, and writes dvc.lock.
    repo.reproduce([stage.addressing], single_item=True)
    return True


if __name__ == "__main__":
    main()
