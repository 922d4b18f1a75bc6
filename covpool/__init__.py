"""Covariance pooling for facial expression recognition: data, SPD networks, training, comparison.

from covpool import Predictor

for face in Predictor("exports/cpu/model.onnx")("photo.jpg"):
    print(face.expression, face.probabilities[face.expression], face.box)
"""


def __getattr__(name):
    # Loaded when it is asked for: TensorFlow's Python 3.7 imports this package too, and has none of what it needs.
    if name == "Predictor":
        from covpool.predict import Predictor

        return Predictor
    raise AttributeError(f"module 'covpool' has no attribute {name!r}")
