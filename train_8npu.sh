#!/bin/sh
# Trains on the eight NPUs of this host, and evaluates: sh train_8npu.sh; --dry-run only prints what would be started.
# Before: `devices: [npu]` and `workers: 8` for it in params.yaml, and COVPOOL_TF_PYTHON, the Python that has npu_bridge.
# The workers are connected by RANK_TABLE_FILE if it is set; else by a chief at this host's address, or CM_CHIEF_IP.
self=$(readlink -f -- "$0")
cd "${self%/*}" || exit 1
if [ -z "${RANK_TABLE_FILE:-}" ]; then
    address=${CM_CHIEF_IP:-$(hostname -I | cut -d ' ' -f 1)}
    export CM_CHIEF_IP="$address" CM_WORKER_IP="${CM_WORKER_IP:-$address}" CM_CHIEF_PORT="${CM_CHIEF_PORT:-29688}"
    export CM_CHIEF_DEVICE="${CM_CHIEF_DEVICE:-0}" CM_WORKER_SIZE="${CM_WORKER_SIZE:-8}"
fi
stages/tf -m covpool.port.train_8npu || exit
if [ "${1:-}" = --dry-run ]; then
    exec stages/tf stages/train.py --device npu --dry-run
fi
exec stages/py -m dvc repro evaluate@npu "$@"
