"""The default setting of the Ascend port of CovPoolFER. The port's published figures were obtained with it.

It maps keys of params.yaml to plain values, so that both interpreters can read it. `train.sh` starts from it, the
report compares runs with it, and the benchmark measures it.
"""

#: The defaults of the port's flags.
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

#: The values that are fixed in the port's code.
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

#: The whole setting, as the flags request it.
PUBLISHED = dict(FLAGS, **FIXED)

#: The setting that the port applies in effect: it accepts the dropout flag but does not apply dropout.
IN_EFFECT = dict(PUBLISHED, **{"train.keep_probability": 1.0})
