"""How several NPUs are connected: the environment from which HCCL, Ascend's collective communication, takes it.

Each worker is a process with a device. HCCL knows of the others either by a rank table, a JSON file that the cluster's
administrator or scheduler writes, or by the address of a chief to whom all report:

| by | given for all | each worker's own |
|---|---|---|
| rank table | RANK_TABLE_FILE, RANK_SIZE, JOB_ID | RANK_ID, ASCEND_DEVICE_ID |
| chief | CM_CHIEF_IP, CM_CHIEF_PORT, CM_CHIEF_DEVICE, CM_WORKER_SIZE, CM_WORKER_IP, JOB_ID | ASCEND_DEVICE_ID |

The adapter's plug-in connects nothing, and only writes a line to its log, where variables of both are set (RANK_SIZE
beside CM_CHIEF_IP, CM_WORKER_SIZE beside RANK_TABLE_FILE) or where one of them is missing: each worker would train by
itself, and nobody would notice. So they are checked before anything is started. The standard library is enough here.
"""

import collections
import ipaddress
import json
import os
import re
import socket

#: A worker's number among all, its number and the number of workers on this host, its device, and the devices of all
#: workers of this host by rank, empty where they are not known.
Member = collections.namedtuple("Member", ["rank", "local_rank", "local_count", "device", "neighbours"], defaults=[()])

TABLE, CHIEF = "RANK_TABLE_FILE", "CM_CHIEF_IP"
CHIEF_NEEDS = ("CM_CHIEF_IP", "CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP")
#: What must not be set beside the one or the other.
BESIDE = {TABLE: CHIEF_NEEDS, CHIEF: (TABLE, "RANK_SIZE", "RANK_ID")}
#: A worker's number where a chief connects them: HCCL tells it only when it is connected.
RANK = "COVPOOL_RANK"
#: Set for a worker that `covpool.distributed.launcher` started, with all others, on this host: the launcher's PID.
LAUNCHER = "COVPOOL_LAUNCHER"
DEFAULT_JOB = "covpool"
#: Of rank tables; 1.2 is the one of SuperPoDs, whose server_list is the same.
VERSIONS = ("1.0", "1.2")


class ClusterError(ValueError):
    """The environment does not connect so many workers; the message names the variable and what it must be."""


def members(workers, first_device, environment):
    """The workers of this host, as `Member`s. first_device: of the first one, where no table says it.

    workers: of all hosts together. Raises ClusterError.
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


def variables(member, workers, environment):
    """What a worker's environment has beside that of all, {name: value}."""
    own = {"ASCEND_DEVICE_ID": str(member.device), "JOB_ID": environment.get("JOB_ID") or DEFAULT_JOB}
    if _kind(environment) == TABLE:
        return dict(own, RANK_SIZE=str(workers), RANK_ID=str(member.rank))
    return dict(own, **{RANK: str(member.rank)})


def is_worker(environment):
    """Whether a process has an environment of one worker: its number is there."""
    return "RANK_ID" in environment or RANK in environment


def size(environment):
    """How many workers an environment speaks of, 1 where of none, and the variable that says so, None where none does.

    A rank table that can't be read is nobody's: NPUs that train by themselves are not connected. Raises ClusterError.
    """
    for name in ("CM_WORKER_SIZE", "RANK_SIZE"):
        if environment.get(name):
            return _number(name, environment, 1, None), name
    try:
        return sum(len(server["device"]) for server in _read_table(environment.get(TABLE, ""))), TABLE
    except ClusterError:
        return 1, None


def leave(environment):
    """Take out what would connect a process with others."""
    for name in (TABLE, "RANK_SIZE", "RANK_ID", RANK, *CHIEF_NEEDS):
        environment.pop(name, None)


def own(workers, environment):
    """The `Member` that this process is, with its whole environment checked. Raises ClusterError."""
    kind = _kind(environment)
    name = "RANK_ID" if kind == TABLE else RANK
    rank = _number(name, environment, 0, workers - 1)
    device = _number("ASCEND_DEVICE_ID", environment, 0, None)
    if kind == CHIEF:
        _check_chief(workers, environment)
        if LAUNCHER in environment:
            first = device - rank
            return Member(rank, rank, workers, device, tuple(range(first, first + workers)))
        # Started by hand, on several hosts perhaps: it is not known here how many are on this one.
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


def _kind(environment):
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


def _check_chief(workers, environment):
    missing = [name for name in CHIEF_NEEDS if not environment.get(name)]
    if missing:
        raise ClusterError(f"{CHIEF} is set, but {' and '.join(missing)} is not set")
    _number("CM_CHIEF_PORT", environment, 1, 65535)
    _number("CM_CHIEF_DEVICE", environment, 0, None)
    size = _number("CM_WORKER_SIZE", environment, 1, None)
    if size != workers:
        raise ClusterError(f"CM_WORKER_SIZE is {size}, but device_options has workers: {workers}")


def _number(name, environment, low, high):
    text = environment.get(name, "")
    if not re.match(r"\d+\Z", text) or int(text) < low or (high is not None and int(text) > high):
        raise ClusterError(
            f"{name} must be a whole number {f'of {low} or more' if high is None else f'from {low} to {high}'}, "
            f"got {repr(text) if text else 'nothing: it is not set'}"
        )
    return int(text)


def _of_table(path, workers):
    """This host's members of a rank table, in the order of their ranks."""
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


def _read_table(path):
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


def _entry(path, device, key):
    value = device.get(key) if isinstance(device, dict) else None
    if not re.match(r"\d+\Z", str(value)):
        raise ClusterError(f"{path}: {key} of a device must be a number, got {value!r}")
    return int(value)


def _check_chips(path, servers):
    """A worker has a chip of its own, and an address at which workers of other servers reach it."""
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


def _check_address(path, device, servers):
    """HCCL takes device_ip as optional on a single server."""
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


def _this_host(path, servers):
    """The server_id of the server that has an address of this host."""
    names = [str(server.get("server_id")) for server in servers]
    found = [name for name in names if _is_here(name)]
    if len(found) != 1:
        raise ClusterError(
            f"{path}: exactly one of the servers {', '.join(names)} must be an address of this host, "
            f"got {' and '.join(found) or 'none'}"
        )
    return found[0]


def _is_here(address):
    """Only an address of this host can be bound to."""
    try:
        family = socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((address, 0))
    except OSError:
        return False
    return True
