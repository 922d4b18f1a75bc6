"""Training and scoring of the networks on TensorFlow: `trainer.Trainer` runs a training, `score` a trained network."""
