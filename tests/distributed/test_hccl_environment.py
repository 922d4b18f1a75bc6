"""What connects several NPUs is checked before anything is started: both ways, and every way to get them wrong."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covpool.distributed import hccl_environment

CHIEF = {
    "CM_CHIEF_IP": "10.0.0.1",
    "CM_CHIEF_PORT": "29688",
    "CM_CHIEF_DEVICE": "0",
    "CM_WORKER_SIZE": "8",
    "CM_WORKER_IP": "10.0.0.1",
}


def rank_table(folder, servers, **more):
    """servers: [(server_id, [(rank, device), ...]), ...]."""
    path = folder / "rank_table.json"
    rows = [
        {
            "server_id": name,
            "device": [
                {"device_id": str(device), "device_ip": f"192.168.100.{rank}", "rank_id": str(rank)}
                for rank, device in devices
            ],
        }
        for name, devices in servers
    ]
    path.write_text(json.dumps(dict({"version": "1.0", "status": "completed", "server_list": rows}, **more)))
    return {"RANK_TABLE_FILE": str(path)}


def refused(function, *arguments):
    with pytest.raises(hccl_environment.ClusterError) as told:
        function(*arguments)
    return str(told.value)


def test_a_chiefs_host_has_all_workers_one_a_chip():
    found = hccl_environment.members(8, 0, CHIEF)
    assert found == [hccl_environment.Member(rank, rank, 8, rank, tuple(range(8))) for rank in range(8)]
    assert hccl_environment.variables(found[3], 8, CHIEF) == {
        "ASCEND_DEVICE_ID": "3",
        "JOB_ID": "covpool",
        "COVPOOL_RANK": "3",
    }
    later = dict(CHIEF, CM_WORKER_SIZE="2", CM_CHIEF_DEVICE="5")
    assert [each.device for each in hccl_environment.members(2, 4, later)] == [4, 5]


def test_a_rank_table_says_which_chip_a_worker_has(tmp_path):
    given_table = rank_table(tmp_path, [("10.0.0.1", [(1, 0), (0, 4)])])
    found = hccl_environment.members(2, 7, given_table)
    assert found == [hccl_environment.Member(0, 0, 2, 4, (4, 0)), hccl_environment.Member(1, 1, 2, 0, (4, 0))]
    assert hccl_environment.variables(found[0], 2, dict(given_table, JOB_ID="mine")) == {
        "RANK_ID": "0",
        "RANK_SIZE": "2",
        "ASCEND_DEVICE_ID": "4",
        "JOB_ID": "mine",
    }


def test_of_several_hosts_this_one_is_found_by_its_address(tmp_path):
    """198.51.100.0/24 is kept for documentation: no host has it."""
    given_table = rank_table(tmp_path, [("198.51.100.1", [(0, 0), (1, 1)]), ("127.0.0.1", [(2, 0), (3, 1)])])
    assert [each.rank for each in hccl_environment.members(4, 0, given_table)] == [2, 3]
    nowhere = rank_table(tmp_path, [("198.51.100.1", [(0, 0)]), ("198.51.100.2", [(1, 0)])])
    assert "servers 198.51.100.1, 198.51.100.2 must be an address of this host, got none" in refused(
        hccl_environment.members, 2, 0, nowhere
    )


@given(st.sampled_from(["table", "chief"]), st.integers(2, 16))
def test_a_worker_knows_itself_by_what_it_was_given(tmp_path_factory, kind, workers):
    folder = tmp_path_factory.mktemp("table")
    table = rank_table(folder, [("10.0.0.1", [(rank, workers - rank) for rank in range(workers)])])
    environment = table if kind == "table" else dict(CHIEF, CM_WORKER_SIZE=str(workers))
    for member in hccl_environment.members(workers, 0, environment):
        found = hccl_environment.own(
            workers, dict(environment, **hccl_environment.variables(member, workers, environment))
        )
        assert (found.rank, found.device) == (member.rank, member.device)
        assert hccl_environment.is_worker(hccl_environment.variables(member, workers, environment))
    assert not hccl_environment.is_worker(environment)


@pytest.mark.parametrize(
    "environment, wanted",
    [
        ({}, "nothing connects the NPUs: set RANK_TABLE_FILE .* or all of CM_CHIEF_IP, .*a chief"),
        (dict(CHIEF, RANK_TABLE_FILE="/t"), "RANK_TABLE_FILE and CM_CHIEF_IP and .* are both set, .*connects nothing"),
        (dict(CHIEF, RANK_SIZE="8"), "CM_CHIEF_IP and RANK_SIZE are both set, and then the adapter connects nothing"),
        ({"RANK_TABLE_FILE": "/t", "CM_WORKER_SIZE": "8"}, "RANK_TABLE_FILE and CM_WORKER_SIZE are both set"),
        ({key: value for key, value in CHIEF.items() if key != "CM_CHIEF_PORT"}, "CM_CHIEF_PORT is not"),
        (dict(CHIEF, CM_CHIEF_PORT="high"), "CM_CHIEF_PORT must be a whole number from 1 to 65535, got 'high'"),
        (dict(CHIEF, CM_CHIEF_PORT="70000"), "CM_CHIEF_PORT must be .*, got '70000'"),
        (dict(CHIEF, CM_WORKER_SIZE="4"), "CM_WORKER_SIZE is 4, but device_options has workers: 8"),
        (dict(CHIEF, CM_CHIEF_DEVICE="8"), "CM_CHIEF_DEVICE must be the chip of one of the workers, 0 to 7, got 8"),
        (dict(CHIEF, CM_WORKER_IP="10.0.0.2"), "CM_WORKER_IP is 10.0.0.2 and CM_CHIEF_IP is 10.0.0.1"),
        ({"RANK_TABLE_FILE": "table.json"}, "RANK_TABLE_FILE must be an absolute path, got table.json"),
        ({"RANK_TABLE_FILE": "/nowhere.json"}, "can't read RANK_TABLE_FILE /nowhere.json"),
    ],
)
def test_a_wrong_environment_is_refused(environment, wanted):
    assert re.search(wanted, refused(hccl_environment.members, 8, 0, environment))


@pytest.mark.parametrize(
    "servers, more, wanted",
    [
        ([("a", [(0, 0)])], {}, "expected the ranks 0 to 1 for workers: 2, got 0"),
        ([("a", [(0, 0), (0, 1)])], {}, "got 0, 0"),
        ([("a", [(0, 0), (1, "x")])], {}, "device_id of a device must be a number, got 'x'"),
        ([("a", [(0, 0), (1, 1)])], {"status": "initializing"}, "status must be 'completed', got 'initializing'"),
        ([("a", [(0, 3), (1, 3)])], {}, "two ranks have device_id 3 of server a: give each rank its own chip"),
        ([("a", [(0, 0), (1, 1)])], {"version": "9"}, "version must be 1.0 or 1.2, got '9'"),
        ([("a", [(0, 0), (1, 1)])], {"version": None}, "version must be 1.0 or 1.2, got None"),
        ([("a", [(0, 0), (1, 1)])], {"server_count": "2"}, "server_count is '2', but server_list has 1"),
        ([("a", [(0, 0)]), ("b", [(1, 0)])], {"server_count": "1"}, "server_count is '1', but server_list has 2"),
        ([], {}, "expected a rank table of version 1.0"),
        ([], {"server_list": [{"device": 3}]}, "expected a rank table of version 1.0"),
        ([], {"server_list": [{"device": ["0"]}]}, "rank_id of a device must be a number, got None"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, servers, more, wanted):
    assert wanted in refused(hccl_environment.members, 2, 0, rank_table(tmp_path, servers, **more))
    (tmp_path / "rank_table.json").write_text("[1")
    assert "can't read RANK_TABLE_FILE" in refused(
        hccl_environment.members, 2, 0, {"RANK_TABLE_FILE": str(tmp_path / "rank_table.json")}
    )


def without_addresses(environment, address=None):
    """The same rank table without any device_ip, or with this one for all."""
    path = Path(environment["RANK_TABLE_FILE"])
    table = json.loads(path.read_text())
    for device in (each for server in table["server_list"] for each in server["device"]):
        del device["device_ip"]
        device.update({} if address is None else {"device_ip": address})
    path.write_text(json.dumps(table))
    return environment


def test_workers_of_several_hosts_have_addresses_to_reach_them(tmp_path):
    alone = without_addresses(rank_table(tmp_path, [("10.0.0.1", [(0, 0), (1, 1)])]))
    assert [each.device for each in hccl_environment.members(2, 0, alone)] == [0, 1]
    hosts = [("127.0.0.1", [(0, 0)]), ("198.51.100.1", [(1, 0)])]
    assert "device_ip of rank 0 must be the address of its network card (required with several servers), got None" in (
        refused(hccl_environment.members, 2, 0, without_addresses(rank_table(tmp_path, hosts)))
    )
    assert "device_ip of rank 0 must be the address of its network card, got 'eth0'" in (
        refused(hccl_environment.members, 2, 0, without_addresses(rank_table(tmp_path, hosts), "eth0"))
    )
    assert len(hccl_environment.members(2, 0, without_addresses(rank_table(tmp_path, hosts), "fe80::1"))) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"version": "1.0", "server_count": "2"},
        {"server_count": 2},
        {},
        {"version": "1.2", "server_count": "2", "super_pod_list": [{"super_pod_id": "0"}]},
    ],
)
def test_what_rank_tables_may_be_is_taken(tmp_path, more):
    """Chips of the same number on two servers; the count as text or number."""
    hosts = [("127.0.0.1", [(0, 0), (1, 1)]), ("198.51.100.1", [(2, 0), (3, 1)])]
    assert [each.rank for each in hccl_environment.members(4, 0, rank_table(tmp_path, hosts, **more))] == [0, 1]


@pytest.mark.parametrize(
    "change, wanted",
    [
        ({"RANK_ID": "2"}, "RANK_ID must be a whole number from 0 to 1, got '2'"),
        ({"RANK_ID": ""}, "RANK_ID must be .* it is not set"),
        ({"RANK_SIZE": "3"}, "RANK_SIZE is 3, but device_options has workers: 2"),
        ({"ASCEND_DEVICE_ID": "1"}, "RANK_ID is 1 and ASCEND_DEVICE_ID is 1, but .* has device 4 for this host"),
        ({"ASCEND_DEVICE_ID": ""}, "ASCEND_DEVICE_ID must be a whole number of 0 or more, got nothing: it is not set"),
    ],
)
def test_a_worker_with_a_wrong_environment_is_refused(tmp_path, change, wanted):
    environment = rank_table(tmp_path, [("a", [(0, 0), (1, 4)])])
    right = dict(environment, RANK_ID="1", RANK_SIZE="2", ASCEND_DEVICE_ID="4")
    assert hccl_environment.own(2, right).device == 4
    assert re.search(wanted, refused(hccl_environment.own, 2, dict(right, **change)))


def test_a_worker_knows_the_others_of_its_host_where_they_were_started_together():
    environment = dict(CHIEF, CM_WORKER_SIZE="4", CM_CHIEF_DEVICE="2", COVPOOL_RANK="1", ASCEND_DEVICE_ID="3")
    assert hccl_environment.own(4, environment).neighbours == ()
    started = hccl_environment.own(4, dict(environment, COVPOOL_LAUNCHER="1"))
    assert started == hccl_environment.members(4, 2, environment)[1] and started.neighbours == (2, 3, 4, 5)


def test_what_connects_can_be_taken_out(tmp_path):
    environment = dict(CHIEF, **rank_table(tmp_path, []), RANK_ID="0", RANK_SIZE="1", COVPOOL_RANK="0", HOME="/root")
    hccl_environment.leave(environment)
    assert environment == {"HOME": "/root"}
