"""Two NPU workers as the stage starts them, against the stand-in for npu_bridge, which goes through Horovod here."""

import json
import os
import signal
import threading

import pytest

from tests.tf.devices.npu_standin import give_npu  # noqa: E402
from tests.workers.workers_project import TeamProject, ended, finished_steps, wait_until, workers_of

NPUS = {"devices": ["npu"], "train.epochs": 4, "train.epoch_size": 2, "train.keep_probability": 1.0}


@pytest.fixture
def exchange():
    """The variables by which the stand-ins of a run find each other; a new Horovod rendezvous for each call."""
    from horovod.runner import gloo_run
    from horovod.runner.common.util import hosts
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    servers = []

    def make():
        server = RendezvousHTTPServer(("127.0.0.1", 0), RendezvousHandler, 0)
        server.init(hosts.get_host_assignments(hosts.parse_hosts("localhost:2"), 2))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        shared = gloo_run.create_run_env_vars("127.0.0.1", ["lo"], server.server_address[1])
        return dict(
            {key: str(value) for key, value in shared.items()}, HOROVOD_FUSION_THRESHOLD="0", HOROVOD_LOG_LEVEL="fatal"
        )

    yield make
    for server in servers:
        server.shutdown()


class NpuTeam(TeamProject):
    """Two workers on the NPUs 0 and 4, by a rank table."""

    def __init__(self, folder, changes=None):
        super().__init__(folder, 1, dict(NPUS, **{"device_options.npu.workers": 2}, **(changes or {})), device="npu")
        give_npu(self)
        table = folder / "rank_table.json"
        chips = [{"device_id": "0", "rank_id": "0"}, {"device_id": "4", "rank_id": "1"}]
        servers = [{"server_id": "10.0.0.1", "device": chips}]
        table.write_text(json.dumps({"status": "completed", "version": "1.0", "server_list": servers}))
        self.environment["RANK_TABLE_FILE"] = str(table)


@pytest.fixture
def team(tmp_path):
    made = []

    def make(changes=None):
        made.append(NpuTeam(tmp_path / f"project-{len(made)}", changes))
        return made[-1]

    return make


def test_two_npus_train_together_are_killed_and_go_on_with_the_same_bytes(team, exchange):
    alone, victim = team(), team()
    alone.environment.update(exchange())
    done = alone.run("nothing")
    assert done.returncode == 0, done.stderr
    record = alone.record()
    assert record["kind"] == "npu" and record["device"]["count"] == 2 and record["progress"]["batch_size"] == 12
    leader, other = alone.variables(0), alone.variables(1)
    assert all((leader[name] == other[name]).all() for name in leader) and leader["global_step"] == 8

    victim.environment.update(exchange())
    process = victim.start()
    wait_until(lambda: max(finished_steps(victim), default=0) >= 2, process)
    os.kill(workers_of(process, "RANK_ID")[1], signal.SIGKILL)
    done = ended(process)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "train: worker 1 of 2 was ended by SIGKILL. Run the same command again to resume from the last state.\n"
    )
    victim.environment.update(exchange())
    again = victim.run()
    assert again.returncode == 0 and again.stdout.startswith("Resuming at step "), again.stderr
    assert victim.results() == alone.results()


def test_workers_that_nothing_connects_are_refused(team):
    lonely = team()
    lonely.environment["CM_WORKER_SIZE"] = "2"
    done = lonely.run()
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "train: device 'npu' has workers: 2: RANK_TABLE_FILE and CM_WORKER_SIZE are both set, and then the adapter "
        "connects nothing: unset one of them. See docs/workers.md.\n"
    )
