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
#: Set for a worker that `covpool.distributed.launcher` started, with all others, on this host: the process id of the launcher.
LAUNCHER = "COVPOOL_LAUNCHER"
DEFAULT_JOB = "covpool"
#: Of rank tables; 1.2 is the one of SuperPoDs, whose server_list is the same.
VERSIONS = ("1.0", "1.2")


class ClusterError(ValueError):
    """The environment does not connect so many workers; the message says which variable, and what is wanted."""


def members(workers, first_device, environment):
    """The workers of this host, as `Member`s. first_device: of the first one, where no table says it.

    workers: of all hosts together. Raises ClusterError.
    """
    if _kind(environment) == TABLE:
        return _of_table(environment[TABLE], workers)
    _check_chief(workers, environment)
    if environment["CM_WORKER_IP"] != environment["CM_CHIEF_IP"]:
        raise ClusterError(
            "CM_WORKER_IP is {} and CM_CHIEF_IP {}: with a chief all workers are started on its host. For several "
            "hosts use a rank table, or start each worker by hand.".format(
                environment["CM_WORKER_IP"], environment["CM_CHIEF_IP"]
            )
        )
    devices = range(first_device, first_device + workers)
    if int(environment["CM_CHIEF_DEVICE"]) not in devices:
        raise ClusterError(
            "CM_CHIEF_DEVICE is {}: wanted the chip of one of the workers, {} to {}".format(
                environment["CM_CHIEF_DEVICE"], devices[0], devices[-1]
            )
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
        raise ClusterError(f"RANK_SIZE is {size}, and device_options has workers: {workers}")
    found = next((each for each in _of_table(environment[TABLE], workers) if each.rank == rank), None)
    if found is None or found.device != device:
        raise ClusterError(
            "RANK_ID is {} and ASCEND_DEVICE_ID {}, and {} has {} for this host".format(
                rank, device, environment[TABLE], "no such rank" if found is None else f"device {found.device}"
            )
        )
    return found


def _kind(environment):
    found = [name for name in (TABLE, CHIEF) if environment.get(name)]
    if not found:
        raise ClusterError(
            "several NPUs are connected by a rank table, RANK_TABLE_FILE, or by a chief, CM_CHIEF_IP, CM_CHIEF_PORT, "
            "CM_CHIEF_DEVICE, CM_WORKER_SIZE and CM_WORKER_IP, and neither is set"
        )
    beside = [name for name in BESIDE[found[0]] if environment.get(name)]
    if beside:
        raise ClusterError(
            "{} and {} are set, and the adapter connects nothing where both are: unset one".format(
                found[0], " and ".join(beside)
            )
        )
    return found[0]


def _check_chief(workers, environment):
    missing = [name for name in CHIEF_NEEDS if not environment.get(name)]
    if missing:
        raise ClusterError("{} is set, and {} is not".format(CHIEF, " and ".join(missing)))
    _number("CM_CHIEF_PORT", environment, 1, 65535)
    _number("CM_CHIEF_DEVICE", environment, 0, None)
    size = _number("CM_WORKER_SIZE", environment, 1, None)
    if size != workers:
        raise ClusterError(f"CM_WORKER_SIZE is {size}, and device_options has workers: {workers}")


def _number(name, environment, low, high):
    text = environment.get(name, "")
    if not re.match(r"\d+\Z", text) or int(text) < low or (high is not None and int(text) > high):
        raise ClusterError(
            "{} is {}: wanted a whole number from {}{}".format(
                name, repr(text) if text else "not set", low, "" if high is None else f" to {high}"
            )
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
            "{}: has the ranks {}, and device_options has workers: {}, which wants 0 to {}".format(
                path, ", ".join(map(str, ranks)) or "of nobody", workers, workers - 1
            )
        )
    _check_chips(path, servers)
    here = servers[0].get("server_id") if len(servers) == 1 else _this_host(path, servers)
    found = sorted((rank, device) for rank, device, server in devices if server == here)
    devices = tuple(device for _, device in found)
    return [Member(rank, number, len(found), device, devices) for number, (rank, device) in enumerate(found)]


def _read_table(path):
    if not os.path.isabs(path):
        raise ClusterError(f"RANK_TABLE_FILE is {path}: wanted an absolute path")
    try:
        with open(path, encoding="utf-8") as stream:
            table = json.load(stream)
    except (OSError, ValueError) as error:
        raise ClusterError(f"RANK_TABLE_FILE {path} can't be read: {error}") from None
    servers = table.get("server_list") if isinstance(table, dict) else None
    good = (
        isinstance(servers, list)
        and servers
        and all(isinstance(server, dict) and isinstance(server.get("device"), list) for server in servers)
    )
    if not good:
        raise ClusterError(
            f"{path}: wanted a rank table of version 1.0: server_list, each server with its list `device` of "
            "device_id, device_ip and rank_id"
        )
    if table.get("status") != "completed":
        raise ClusterError("{}: its status is {!r}; HCCL waits for `completed`".format(path, table.get("status")))
    if table.get("version") not in VERSIONS:
        raise ClusterError(
            "{}: its version is {!r}; wanted {}".format(path, table.get("version"), " or ".join(VERSIONS))
        )
    if "server_count" in table and str(table["server_count"]) != str(len(servers)):
        raise ClusterError(
            "{}: its server_count is {!r}, and server_list has {}".format(path, table["server_count"], len(servers))
        )
    return servers


def _entry(path, device, key):
    value = device.get(key) if isinstance(device, dict) else None
    if not re.match(r"\d+\Z", str(value)):
        raise ClusterError(f"{path}: a device has {key} {value!r}: wanted a number")
    return int(value)


def _check_chips(path, servers):
    """A worker has a chip of its own, and an address at which workers of other servers reach it."""
    seen = set()
    for server in servers:
        for device in server["device"]:
            chip = (server.get("server_id"), _entry(path, device, "device_id"))
            if chip in seen:
                raise ClusterError(
                    f"{path}: two ranks have device_id {chip[1]} of the server {chip[0]}: wanted a chip for each"
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
        why = ", as there are several servers" if address is None else ""
        raise ClusterError(
            "{}: the device of rank {} has device_ip {!r}: wanted its network card's address{}".format(
                path, device["rank_id"], address, why
            )
        ) from None


def _this_host(path, servers):
    """The server_id of the server that has an address of this host."""
    names = [str(server.get("server_id")) for server in servers]
    found = [name for name in names if _is_here(name)]
    if len(found) != 1:
        raise ClusterError(
            "{}: of its servers {}, {} an address of this host".format(
                path, ", ".join(names), "{} are".format(" and ".join(found)) if found else "none is"
            )
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
