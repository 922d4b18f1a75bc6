"""Starts the workers of a run, where `device_options` ask for several: this program once more for each of them.

The stage that DVC runs stays what it is: it waits for the workers, hands signals on to them, and ends as they end. It
does on this host what horovodrun does, with Horovod's own rendezvous; but horovodrun kills a worker that takes more
than 5 seconds to end after a signal, in which a training can't always finish its step and save its state.

Worker 0 writes to this process's output. The others have nothing to say unless they fail; what they write is kept in
`.covpool/workers/<run>-<rank>.log`, and shown if it tells why the run failed.
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

from covpool.distributed import hccl_environment

#: The option of a stage that only shows what it would start.
DRY_RUN = "--dry-run"
#: Exit code of a worker that gave up because another one is gone: not the one to blame.
LOST = 75
#: Exit codes of workers that were asked to stop: after their step, and worker 0 after it has saved.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
#: Seconds that the others have to notice that one is gone, before they are killed.
GRACE = 60
LOGS = Path(".covpool") / "workers"
LAUNCHER = hccl_environment.LAUNCHER

#: `environments` of a run that this process is to do itself.
ITSELF = {0: {}}


class LaunchError(RuntimeError):
    """The workers can't be started, or one of them failed; the message says which and why."""


def hand_on(name, options, dry_run=False):
    """Let workers do what this process was started for, and end as they end; returns where this process is to do it.

    dry_run: print what would be started, after the same checks, and end.
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


def _refuse_to_leave_others(name):
    """An environment of several NPUs is no mistake that training on one of them would answer."""
    try:
        size, variable = hccl_environment.size(os.environ)
    except hccl_environment.ClusterError as error:
        raise LaunchError(f"device {name!r}: {error}.") from None
    if size > 1:
        raise LaunchError(
            f"device '{name}' has workers: 1, but {variable} is for {size}: set device_options.{name}.workers to "
            f"{size} in params.yaml, or unset {variable} to train on one NPU. See docs/workers.md."
        )


def _is_worker(kind):
    return hccl_environment.is_worker(os.environ) if kind == "npu" else "HOROVOD_RANK" in os.environ


@contextlib.contextmanager
def environments(name, options):
    """A context with what each worker's environment has beside this process's own: {rank: {name: value}}.

    ITSELF where this process is to do it. Raises LaunchError where the environment does not allow the run.
    """
    if options.workers == 1 and options.kind == "npu":
        _refuse_to_leave_others(name)
    # Workers may have been started by hand or by horovodrun, on several hosts perhaps.
    if options.workers == 1 or _is_worker(options.kind):
        yield ITSELF
    else:
        started = _hccl_environments if options.kind == "npu" else _horovod_environments
        with started(name, options) as found:
            yield found


@contextlib.contextmanager
def _hccl_environments(name, options):
    try:
        members = hccl_environment.members(options.workers, options.visible_device, os.environ)
        yield {each.rank: hccl_environment.variables(each, options.workers, os.environ) for each in members}
    except hccl_environment.ClusterError as error:
        raise LaunchError(f"device {name!r} has workers: {options.workers}: {error}. See docs/workers.md.") from None


def _show(environments):
    for rank, environment in environments.items():
        changes = [f"{key}={shlex.quote(value)}" for key, value in sorted(environment.items())]
        command = [sys.executable] + [each for each in sys.argv if each != DRY_RUN]
        print(f"worker {rank}: {' '.join(changes + [shlex.quote(each) for each in command])}")


def _end_with(launcher):
    """Ask the kernel for a SIGTERM when the launcher dies, so that no workers are left behind after its kill -9."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != launcher:
        sys.exit(LOST)


def _share_processors(workers):
    """Set OpenMP's threads to this worker's part of the cores. TensorFlow reads it when it is loaded."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // workers)))


@contextlib.contextmanager
def _horovod_environments(name, options):
    """As `environments`, for as long as Horovod's rendezvous is there."""
    if importlib.util.find_spec("horovod") is None:
        raise LaunchError(
            f"device {name!r} has workers: {options.workers}, which needs Horovod, but {sys.executable} does not have "
            "it: run `make setup-workers` to build it into the TensorFlow environment. See docs/workers.md."
        )
    from horovod.runner import gloo_run
    from horovod.runner.common.util import hosts
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    slots = hosts.get_host_assignments(hosts.parse_hosts(f"localhost:{options.workers}"), options.workers)
    # For this host only: Horovod's own way to start it would let the network in.
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


def run_workers(name, environments):
    """This program once for each of {rank: variables}, to the end of them all; the exit status for this process.

    Raises LaunchError that names the worker that failed, unless it is worker 0, which has told its reason itself.
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


def _judged(codes, killed, logs):
    """What `run_workers` makes of the workers' exit codes {rank: code}.

    Of those that failed for a reason of their own one that was killed counts first, then the lowest rank.
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


def _error(rank, codes, reason):
    return LaunchError(f"worker {rank} of {len(codes)} {reason}")


def _start(environment, log):
    """This program once more, in a session of its own: a Ctrl-C reaches it from here only, and once."""
    environment = dict(os.environ, **environment, **{LAUNCHER: str(os.getpid())})
    command = [sys.executable] + sys.argv
    if log is None:
        return subprocess.Popen(command, env=environment, start_new_session=True)
    with open(str(log), "w") as stream:
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=stream, stderr=stream)


def _wait(workers, signals):
    """Until all have ended; the ranks of those that had to be killed, because they hung after another had failed."""
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
    """SIGINT and SIGTERM are handed on; the workers finish their step, save, and end."""

    def __enter__(self):
        self._pending = []
        self.last = None
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self._pending.append(number)

    def hand_on(self, workers):
        while self._pending:
            self.last = number = self._pending.pop(0)
            for worker in workers:
                if worker.poll() is None:
                    worker.send_signal(number)
