"""`make back`: restores the parameters and results of the last commit after experiments, without training.

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
#: The files that `dvc exp run` changes in the workspace. Git may lack some of them.
CHANGED = (PARAMS_FILE, LOCK, artifacts.REPORTS / "metrics.json")
#: Stages that may be run because they take a second and never train.
QUICK = ("check", "report")


def main() -> None:
    """Restore the workspace and print one sentence about its new state. Run it in the project's root.

    Raises:
        SystemExit: Git or DVC could not restore the files.
    """
    # DVC would report each stage and give advice on Git. One sentence at the end is enough.
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
    """Restore with `git checkout` the files that an experiment changes and that Git has."""
    _git("checkout", "HEAD", "--", *_committed())


def _committed() -> List[str]:
    return _git("ls-tree", "--name-only", "HEAD", *map(str, CHANGED)).splitlines()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def restore_results() -> bool:
    """Restore the results of params.yaml from DVC's cache.

    Returns:
        True if all results were restored. False if a slow stage would have to run. The outputs of all stages are then
        removed, and so is a dvc.lock that Git does not have.

    Raises:
        DvcException: DVC could not restore the results.
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
    # The headline metrics are an output of a stage, but Git has them.
    _restore_files()
    return False


def _restore(repo: Repo, stage: Stage) -> bool:
    """Restore one stage's outputs, or run the stage if it is quick; return False if neither is possible."""
    if not stage.changed():
        return True
    stage.remove_outs()
    try:
        repo.stage_cache.restore(stage)
    except DvcException:
        if stage.name not in QUICK:
            return False
    # This finds the restored outputs in the cache, and writes dvc.lock.
    repo.reproduce([stage.addressing], single_item=True)
    return True


if __name__ == "__main__":
    main()
