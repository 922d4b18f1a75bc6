"""The setting with which the Ascend port of CovPoolFER trains by default, and which its published figures are of.

Keys of params.yaml with plain values, for both interpreters: `train.sh` starts from it, the report compares runs with
it, and the benchmark measures it.
"""

#: Values that the port has as defaults of its flags.
FLAGS = {
    "normalise.size": 100,
    "network.model_def": "covpoolnet2",
    "network.embedding_size": 128,
    "train.optimizer": "ADAM",
    "train.learning_rate": -1.0,
    "train.schedule": "model1",
    "train.learning_rate_decay_epochs": 100,
    "train.learning_rate_decay_factor": 1.0,
    "train.moving_average_decay": 0.9999,
    "train.epochs": 95,
    "train.epoch_size": 95,
    "train.batch_size": 128,
    "train.keep_probability": 0.8,
    "train.weight_decay": 5e-2,
    "train.center_loss_factor": 1e-2,
    "train.center_loss_alfa": 0.9,
    "train.random_crop": False,
    "train.random_flip": False,
    "train.random_rotate": False,
    "train.seed": 666,
    "train.nrof_preprocess_threads": 4,
    "train.pretrained_model": "",
    "train.log_histograms": False,
}

#: Values that the port has in its code.
FIXED = {
    "network.pooling": "covariance",
    "network.vectorise": "full",
    "network.normalisation": "none",
    "network.batch_norm_decay": 0.995,
    "spd.method": "eigh",
    "spd.ridge": 1e-4,
    "spd.epsilon": 1e-4,
    "spd.maximum": 1e4,
    "train.class_weights": "none",
    "train.adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 0.1},
}

#: All of it, as the flags ask for it.
PUBLISHED = dict(FLAGS, **FIXED)

#: What the port does in effect: it accepts dropout without applying it.
IN_EFFECT = dict(PUBLISHED, **{"train.keep_probability": 1.0})
