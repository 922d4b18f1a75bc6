#!/bin/sh
# Trains as the Ascend port of CovPoolFER does, with its flags and defaults: sh train.sh --data_dir PATH/SFEW_100
# The flags become parameters of a DVC experiment; `sh train.sh --help` lists them, README.md says where results land.
self=$(readlink -f -- "$0")
exec "${self%/*}/stages/py" -m covpool.port.train_sh "$@"
