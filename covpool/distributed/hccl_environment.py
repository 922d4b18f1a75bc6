"""Reads and checks the environment variables by which HCCL, Ascend's collective communication, connects several NPUs.

Each worker is a process with one device. HCCL can find the other workers in two ways. A rank table is a JSON file that
the administrator or the scheduler of the cluster writes. A chief is a worker to whose address all workers connect.

| connected by | the same for all workers | different for each worker |
|---|---|---|
| rank table | RANK_TABLE_FILE, RANK_SIZE, JOB_ID | RANK_ID, ASCEND_DEVICE_ID |
| chief | CM_CHIEF_IP, CM_CHIEF_PORT, CM_CHIEF_DEVICE, CM_WORKER_SIZE, CM_WORKER_IP, JOB_ID | ASCEND_DEVICE_ID |

The adapter's plug-in connects no workers if variables of both ways are set (RANK_SIZE with CM_CHIEF_IP, CM_WORKER_SIZE
with RANK_TABLE_FILE), or if a variable is missing. It only writes a line to its log, and each worker would train alone
without an error. This module therefore checks the variables before any worker starts. It needs the standard library
only.
"""

import collections
import ipaddress
import json
import os
import re
import socket
from typing import Any, Dict, List, Mapping, MutableMapping, Optional, Tuple

#: The place of one worker. rank: its number among all workers. local_rank: its number on this host. local_count: the
#: number of workers on this host. device: its device. neighbours: the devices of all workers of this host by rank, or
#: empty if they are not known.
Member = collections.namedtuple("Member", ["rank", "local_rank", "local_count", "device", "neighbours"], defaults=[()])

TABLE, CHIEF = "RANK_TABLE_FILE", "CM_CHIEF_IP"
CHIEF_NEEDS = ("CM_CHIEF_IP", "CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP")
#: The variables that must not be set together with each of the two.
BESIDE = {TABLE: CHIEF_NEEDS, CHIEF: (TABLE, "RANK_SIZE", "RANK_ID")}
#: A worker's number if a chief connects the workers. HCCL assigns its own number only when it has connected them.
RANK = "COVPOOL_RANK"
#: The PID of the launcher, for a worker that `covpool.distributed.launcher` started. All workers are then on this host.
LAUNCHER = "COVPOOL_LAUNCHER"
DEFAULT_JOB = "covpool"
#: Supported versions of rank tables. SuperPoDs use 1.2; its server_list has the same form.
VERSIONS = ("1.0", "1.2")


class ClusterError(ValueError):
    """The environment does not connect the workers; the message names the variable and its expected value."""


def members(workers: int, first_device: int, environment: Mapping[str, str]) -> List[Member]:
    """Return the workers of this host.

    Args:
        workers: The number of workers on all hosts.
        first_device: The device of the first worker. It is used only if a chief connects the workers.
        environment: The environment variables.

    Returns:
        The workers in the order of their ranks.

    Raises:
        ClusterError: The environment does not connect `workers` workers, or not all of them are on the chief's host.
    """
    if _kind(environment) == TABLE:
        return _of_table(environment[TABLE], workers)
    _check_chief(workers, environment)
    if environment["CM_WORKER_IP"] != environment["CM_CHIEF_IP"]:
        raise ClusterError(
            f"CM_WORKER_IP is {environment['CM_WORKER_IP']} and CM_CHIEF_IP is {environment['CM_CHIEF_IP']}: all "
            "workers must run on the chief's host. For several hosts use a rank table, or start each worker by hand"
        )
    devices = range(first_device, first_device + workers)
    if int(environment["CM_CHIEF_DEVICE"]) not in devices:
        raise ClusterError(
            f"CM_CHIEF_DEVICE must be the chip of one of the workers, {devices[0]} to {devices[-1]}, "
            f"got {environment['CM_CHIEF_DEVICE']}"
        )
    return [Member(rank, rank, workers, device, tuple(devices)) for rank, device in enumerate(devices)]


def variables(member: Member, workers: int, environment: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment variables that one worker needs in addition to the shared ones.

    Args:
        member: The worker.
        workers: The number of workers on all hosts.
        environment: The shared environment variables.

    Returns:
        The value of each additional variable, by its name.

    Raises:
        ClusterError: The environment names neither a rank table nor a chief, or both.
    """
    own = {"ASCEND_DEVICE_ID": str(member.device), "JOB_ID": environment.get("JOB_ID") or DEFAULT_JOB}
    if _kind(environment) == TABLE:
        return dict(own, RANK_SIZE=str(workers), RANK_ID=str(member.rank))
    return dict(own, **{RANK: str(member.rank)})


def is_worker(environment: Mapping[str, str]) -> bool:
    """Return whether the environment is that of one worker, which means that it has the worker's number."""
    return "RANK_ID" in environment or RANK in environment


def size(environment: Mapping[str, str]) -> Tuple[int, Optional[str]]:
    """Return the number of workers that an environment is set up for.

    A rank table that can't be read counts as missing, because one NPU that trains alone needs no table.

    Args:
        environment: The environment variables.

    Returns:
        The number of workers and the name of the variable that sets it; 1 and None if no variable does.

    Raises:
        ClusterError: CM_WORKER_SIZE or RANK_SIZE is not a whole number of 1 or more.
    """
    for name in ("CM_WORKER_SIZE", "RANK_SIZE"):
        if environment.get(name):
            return _number(name, environment, 1, None), name
    try:
        return sum(len(server["device"]) for server in _read_table(environment.get(TABLE, ""))), TABLE
    except ClusterError:
        return 1, None


def leave(environment: MutableMapping[str, str]) -> None:
    """Remove the variables that would connect this process with other workers.

    Args:
        environment: The environment variables. They are changed in place.
    """
    for name in (TABLE, "RANK_SIZE", "RANK_ID", RANK, *CHIEF_NEEDS):
        environment.pop(name, None)


def own(workers: int, environment: Mapping[str, str]) -> Member:
    """Check the whole environment of this process and return its place among the workers.

    Args:
        workers: The number of workers on all hosts.
        environment: The environment variables of this process.

    Returns:
        The place of this process.

    Raises:
        ClusterError: A variable is missing or wrong, or does not fit the rank table.
    """
    kind = _kind(environment)
    name = "RANK_ID" if kind == TABLE else RANK
    rank = _number(name, environment, 0, workers - 1)
    device = _number("ASCEND_DEVICE_ID", environment, 0, None)
    if kind == CHIEF:
        _check_chief(workers, environment)
        if LAUNCHER in environment:
            first = device - rank
            return Member(rank, rank, workers, device, tuple(range(first, first + workers)))
        # The user started this worker, and may have started others on other hosts. The number on this host is unknown.
        return Member(rank, 0, workers, device)
    size = _number("RANK_SIZE", environment, 1, None)
    if size != workers:
        raise ClusterError(f"RANK_SIZE is {size}, but device_options has workers: {workers}")
    found = next((each for each in _of_table(environment[TABLE], workers) if each.rank == rank), None)
    if found is None or found.device != device:
        raise ClusterError(
            f"RANK_ID is {rank} and ASCEND_DEVICE_ID is {device}, but {environment[TABLE]} has "
            f"{'no such rank' if found is None else f'device {found.device}'} for this host"
        )
    return found


def _kind(environment: Mapping[str, str]) -> str:
    """Return TABLE or CHIEF, the way in which the environment connects the workers."""
    found = [name for name in (TABLE, CHIEF) if environment.get(name)]
    if not found:
        raise ClusterError(
            "nothing connects the NPUs: set RANK_TABLE_FILE (a rank table), or all of CM_CHIEF_IP, CM_CHIEF_PORT, "
            "CM_CHIEF_DEVICE, CM_WORKER_SIZE and CM_WORKER_IP (a chief)"
        )
    beside = [name for name in BESIDE[found[0]] if environment.get(name)]
    if beside:
        raise ClusterError(
            f"{found[0]} and {' and '.join(beside)} are both set, and then the adapter connects nothing: "
            "unset one of them"
        )
    return found[0]


def _check_chief(workers: int, environment: Mapping[str, str]) -> None:
    missing = [name for name in CHIEF_NEEDS if not environment.get(name)]
    if missing:
        raise ClusterError(f"{CHIEF} is set, but {' and '.join(missing)} is not set")
    _number("CM_CHIEF_PORT", environment, 1, 65535)
    _number("CM_CHIEF_DEVICE", environment, 0, None)
    size = _number("CM_WORKER_SIZE", environment, 1, None)
    if size != workers:
        raise ClusterError(f"CM_WORKER_SIZE is {size}, but device_options has workers: {workers}")


def _number(name: str, environment: Mapping[str, str], low: int, high: Optional[int]) -> int:
    """Return a variable as a whole number from `low` to `high`; None sets no upper limit."""
    text = environment.get(name, "")
    if not re.match(r"\d+\Z", text) or int(text) < low or (high is not None and int(text) > high):
        raise ClusterError(
            f"{name} must be a whole number {f'of {low} or more' if high is None else f'from {low} to {high}'}, "
            f"got {repr(text) if text else 'nothing: it is not set'}"
        )
    return int(text)


def _of_table(path: str, workers: int) -> List[Member]:
    """Return the workers of this host in a rank table, in the order of their ranks."""
    servers = _read_table(path)
    devices = [
        (_entry(path, device, "rank_id"), _entry(path, device, "device_id"), server.get("server_id"))
        for server in servers
        for device in server["device"]
    ]
    ranks = sorted(rank for rank, _, _ in devices)
    if ranks != list(range(workers)):
        raise ClusterError(
            f"{path}: expected the ranks 0 to {workers - 1} for workers: {workers}, "
            f"got {', '.join(map(str, ranks)) or 'none'}"
        )
    _check_chips(path, servers)
    here = servers[0].get("server_id") if len(servers) == 1 else _this_host(path, servers)
    found = sorted((rank, device) for rank, device, server in devices if server == here)
    devices = tuple(device for _, device in found)
    return [Member(rank, number, len(found), device, devices) for number, (rank, device) in enumerate(found)]


def _read_table(path: str) -> List[Dict[str, Any]]:
    """Return the server_list of a rank table."""
    if not os.path.isabs(path):
        raise ClusterError(f"RANK_TABLE_FILE must be an absolute path, got {path}")
    try:
        with open(path, encoding="utf-8") as stream:
            table = json.load(stream)
    except (OSError, ValueError) as error:
        raise ClusterError(f"can't read RANK_TABLE_FILE {path}: {error}") from None
    servers = table.get("server_list") if isinstance(table, dict) else None
    good = (
        isinstance(servers, list)
        and servers
        and all(isinstance(server, dict) and isinstance(server.get("device"), list) for server in servers)
    )
    if not good:
        raise ClusterError(
            f"{path}: expected a rank table of version 1.0: server_list, each server with a list `device` of "
            "device_id, device_ip and rank_id"
        )
    if table.get("status") != "completed":
        raise ClusterError(f"{path}: status must be 'completed', got {table.get('status')!r}")
    if table.get("version") not in VERSIONS:
        raise ClusterError(f"{path}: version must be {' or '.join(VERSIONS)}, got {table.get('version')!r}")
    if "server_count" in table and str(table["server_count"]) != str(len(servers)):
        raise ClusterError(
            f"{path}: server_count is {table['server_count']!r}, but server_list has {len(servers)} entries"
        )
    return servers


def _entry(path: str, device: Any, key: str) -> int:
    """Return a number from the entry of a device in a rank table."""
    value = device.get(key) if isinstance(device, dict) else None
    if not re.match(r"\d+\Z", str(value)):
        raise ClusterError(f"{path}: {key} of a device must be a number, got {value!r}")
    return int(value)


def _check_chips(path: str, servers: List[Dict[str, Any]]) -> None:
    """Check that each worker has a separate chip, and an address that workers of other servers can reach."""
    seen = set()
    for server in servers:
        for device in server["device"]:
            chip = (server.get("server_id"), _entry(path, device, "device_id"))
            if chip in seen:
                raise ClusterError(
                    f"{path}: two ranks have device_id {chip[1]} of server {chip[0]}: give each rank its own chip"
                )
            seen.add(chip)
            _check_address(path, device, len(servers))


def _check_address(path: str, device: Dict[str, Any], servers: int) -> None:
    """Check a device_ip. HCCL treats it as optional if there is a single server."""
    address = device.get("device_ip")
    if address is None and servers == 1:
        return
    try:
        ipaddress.ip_address(str(address))
    except ValueError:
        why = " (required with several servers)" if address is None else ""
        raise ClusterError(
            f"{path}: device_ip of rank {device['rank_id']} must be the address of its network card{why}, "
            f"got {address!r}"
        ) from None


def _this_host(path: str, servers: List[Dict[str, Any]]) -> str:
    """Return the server_id of the server that has an address of this host."""
    names = [str(server.get("server_id")) for server in servers]
    found = [name for name in names if _is_here(name)]
    if len(found) != 1:
        raise ClusterError(
            f"{path}: exactly one of the servers {', '.join(names)} must be an address of this host, "
            f"got {' and '.join(found) or 'none'}"
        )
    return found[0]


def _is_here(address: str) -> bool:
    """Return whether an address belongs to this host: only then can a socket be bound to it."""
    try:
        family = socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((address, 0))
    except OSError:
        return False
    return True
