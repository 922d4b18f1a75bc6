"""Starts the workers of a run if `device_options` set several: each worker is this program, started again.

The process that DVC runs waits for the workers, forwards signals to them, and ends with their exit status. It replaces
horovodrun on this host and uses Horovod's rendezvous server. horovodrun kills a worker that takes more than 5 seconds
to end after a signal. A training can need more time to finish its step and save its state.

Worker 0 writes to the output of this process. The output of the other workers goes to
`.covpool/workers/<run>-<rank>.log`. It is shown if it explains why the run failed.
"""

import contextlib
import ctypes
import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

from covpool.distributed import hccl_environment

#: The option by which a stage only prints the commands that it would start.
DRY_RUN = "--dry-run"
#: Exit code of a worker that gave up because another worker is lost. It is not the cause of the failure.
LOST = 75
#: Exit codes of workers that stopped on a signal. They finish their step first, and worker 0 also saves its state.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
#: Seconds that the other workers have to detect a lost worker, before they are killed.
GRACE = 60
LOGS = Path(".covpool") / "workers"
LAUNCHER = hccl_environment.LAUNCHER

#: The result of `environments` for a run that this process does itself.
ITSELF = {0: {}}


class LaunchError(RuntimeError):
    """The workers can't be started, or one of them failed; the message names the worker and the reason."""


def hand_on(name: str, options: Any, dry_run: bool = False) -> None:
    """Start the workers of a run, wait for them, and exit with their status.

    It returns only if this process does the work itself: as one of the workers, or as the only one.

    Args:
        name: The name of the run.
        options: The run's entry in `device_options`: an object with the attributes `kind`, `workers` and, for NPUs,
            `visible_device`.
        dry_run: Make the same checks, print the commands that would be started, and exit.

    Raises:
        LaunchError: The environment does not allow the run, or a worker failed.
    """
    if LAUNCHER in os.environ:
        _end_with(int(os.environ[LAUNCHER]))
    else:
        with environments(name, options) as found:
            if dry_run:
                _show(found)
            if dry_run or found != ITSELF:
                sys.exit(0 if dry_run else run_workers(name, found))
    if options.workers > 1:
        _share_processors(int(os.environ.get("HOROVOD_LOCAL_SIZE", 1)))


def _refuse_to_leave_others(name: str) -> None:
    """Raise LaunchError if the environment is set up for several NPUs, since the run would use only one of them."""
    try:
        size, variable = hccl_environment.size(os.environ)
    except hccl_environment.ClusterError as error:
        raise LaunchError(f"device {name!r}: {error}.") from None
    if size > 1:
        raise LaunchError(
            f"device '{name}' has workers: 1, but {variable} is for {size}: set device_options.{name}.workers to "
            f"{size} in params.yaml, or unset {variable} to train on one NPU. See docs/workers.md."
        )


def _is_worker(kind: str) -> bool:
    return hccl_environment.is_worker(os.environ) if kind == "npu" else "HOROVOD_RANK" in os.environ


@contextlib.contextmanager
def environments(name: str, options: Any) -> Iterator[Dict[int, Dict[str, str]]]:
    """Provide the environment variables that each worker needs in addition to those of this process.

    Args:
        name: The name of the run.
        options: The run's entry in `device_options`: an object with the attributes `kind`, `workers` and, for NPUs,
            `visible_device`.

    Yields:
        `{rank: {variable: value}}`, or ITSELF if this process does the run itself. The workers must end before the
        context does.

    Raises:
        LaunchError: The environment does not allow the run.
    """
    if options.workers == 1 and options.kind == "npu":
        _refuse_to_leave_others(name)
    # The user or horovodrun may have started the workers, possibly on several hosts.
    if options.workers == 1 or _is_worker(options.kind):
        yield ITSELF
    else:
        started = _hccl_environments if options.kind == "npu" else _horovod_environments
        with started(name, options) as found:
            yield found


@contextlib.contextmanager
def _hccl_environments(name: str, options: Any) -> Iterator[Dict[int, Dict[str, str]]]:
    """Provide the variables of workers that HCCL connects, as `environments` does."""
    try:
        members = hccl_environment.members(options.workers, options.visible_device, os.environ)
        yield {each.rank: hccl_environment.variables(each, options.workers, os.environ) for each in members}
    except hccl_environment.ClusterError as error:
        raise LaunchError(f"device {name!r} has workers: {options.workers}: {error}. See docs/workers.md.") from None


def _show(environments: Mapping[int, Mapping[str, str]]) -> None:
    """Print the command of each worker."""
    for rank, environment in environments.items():
        changes = [f"{key}={shlex.quote(value)}" for key, value in sorted(environment.items())]
        command = [sys.executable] + [each for each in sys.argv if each != DRY_RUN]
        print(f"worker {rank}: {' '.join(changes + [shlex.quote(each) for each in command])}")


def _end_with(launcher: int) -> None:
    """Ask the kernel for a SIGTERM when the launcher ends, so that a `kill -9` of it leaves no workers behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != launcher:
        sys.exit(LOST)


def _share_processors(workers: int) -> None:
    """Set the number of OpenMP threads to this worker's share of the cores. TensorFlow reads it on import."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // workers)))


@contextlib.contextmanager
def _horovod_environments(name: str, options: Any) -> Iterator[Dict[int, Dict[str, str]]]:
    """Provide the variables as `environments` does, and run Horovod's rendezvous server until the context ends."""
    if importlib.util.find_spec("horovod") is None:
        raise LaunchError(
            f"device {name!r} has workers: {options.workers}, which needs Horovod, but {sys.executable} does not have "
            "it: run `make setup-workers` to build it into the TensorFlow environment. See docs/workers.md."
        )
    from horovod.runner import gloo_run
    from horovod.runner.common.util import hosts
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    slots = hosts.get_host_assignments(hosts.parse_hosts(f"localhost:{options.workers}"), options.workers)
    # The server listens on this host only. Horovod's own start function would open it to the network.
    server = RendezvousHTTPServer(("127.0.0.1", 0), RendezvousHandler, 0)
    server.init(slots)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shared = gloo_run.create_run_env_vars("127.0.0.1", ["lo"], server.server_address[1])
    try:
        shared = {key: str(value) for key, value in shared.items()}
        yield {slot.rank: {**shared, **gloo_run.create_slot_env_vars(slot)} for slot in slots}
    finally:
        server.shutdown()
        server.server_close()


def run_workers(name: str, environments: Mapping[int, Mapping[str, str]]) -> int:
    """Start this program once for each worker and wait until all have ended.

    Args:
        name: The name of the run, for the names of the logs.
        environments: `{rank: {variable: value}}`, as `environments` provides it.

    Returns:
        The exit status for this process.

    Raises:
        LaunchError: A worker was killed, or a worker other than worker 0 failed. Worker 0 prints its reason itself.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    logs = {rank: LOGS / f"{name}-{rank}.log" for rank in environments}
    with _Signals() as signals:
        workers = {
            rank: _start(environment, None if rank == 0 else logs[rank]) for rank, environment in environments.items()
        }
        killed = _wait(workers, signals)
    codes = {rank: worker.returncode for rank, worker in workers.items()}
    if signals.last and all(code in (0, LOST, -signals.last, 128 + signals.last) for code in codes.values()):
        return 128 + signals.last if any(codes.values()) else 0
    return _judged(codes, killed, logs)


def _judged(codes: Mapping[int, int], killed: List[int], logs: Mapping[int, Path]) -> int:
    """Return the exit status that follows from the workers' exit codes, or raise LaunchError.

    Workers that failed because another one was lost are not blamed. Among the others, a worker that was ended by a
    signal is blamed first, then the one with the lowest rank.

    Args:
        codes: `{rank: exit code}`.
        killed: The ranks that this process killed because they did not answer.
        logs: `{rank: log file}`.
    """
    if not any(codes.values()):
        return 0
    blamed = [rank for rank, code in codes.items() if code not in (0, LOST) and rank not in killed]
    if not blamed and killed:
        raise _error(
            killed[0], codes, "did not answer and was killed. Run the same command again to resume from the last state."
        )
    rank = min(blamed, key=lambda rank: (codes[rank] > 0, rank)) if blamed else min(codes)
    code = codes[rank]
    if code < 0:
        reason = f"was ended by {signal.Signals(-code).name}. Run the same command again to resume from the last state."
        raise _error(rank, codes, reason)
    if rank > 0 and code not in STOPPED:
        written = logs[rank].read_text(errors="replace").strip()
        raise _error(rank, codes, f"failed: {written or f'exit code {code}'}")
    return code


def _error(rank: int, codes: Mapping[int, int], reason: str) -> LaunchError:
    return LaunchError(f"worker {rank} of {len(codes)} {reason}")


def _start(environment: Mapping[str, str], log: Optional[Path]) -> "subprocess.Popen[bytes]":
    """Start this program again in a new session, so that Ctrl-C reaches it only once and only from this process."""
    environment = dict(os.environ, **environment, **{LAUNCHER: str(os.getpid())})
    command = [sys.executable] + sys.argv
    if log is None:
        return subprocess.Popen(command, env=environment, start_new_session=True)
    with open(str(log), "w") as stream:
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=stream, stderr=stream)


def _wait(workers: "Mapping[int, subprocess.Popen[bytes]]", signals: "_Signals") -> List[int]:
    """Wait until all workers have ended.

    Returns:
        The ranks of the workers that were killed because they still ran GRACE seconds after another one had failed.
    """
    deadline = None
    while any(worker.poll() is None for worker in workers.values()):
        signals.hand_on(workers.values())
        if deadline is None and any(worker.returncode not in (None, 0, *STOPPED) for worker in workers.values()):
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            hanging = [rank for rank, worker in workers.items() if worker.poll() is None]
            for rank in hanging:
                workers[rank].kill()
                workers[rank].wait()
            return hanging
        time.sleep(0.05)
    return []


class _Signals:
    """Forwards SIGINT and SIGTERM to the workers, which finish their step, save and end.

    Attributes:
        last: The number of the signal that was forwarded last; None if there was none.
    """

    def __enter__(self) -> "_Signals":
        self._pending = []
        self.last = None
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        self._pending.append(number)

    def hand_on(self, workers: "Iterable[subprocess.Popen[bytes]]") -> None:
        """Forward the signals that have arrived to the workers that still run."""
        while self._pending:
            self.last = number = self._pending.pop(0)
            for worker in workers:
                if worker.poll() is None:
                    worker.send_signal(number)
