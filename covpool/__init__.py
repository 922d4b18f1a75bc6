"""Covariance pooling for facial expression recognition: data, SPD networks, training, comparison."""
