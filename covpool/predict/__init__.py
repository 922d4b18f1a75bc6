"""Photos, folders, videos and cameras to expressions, with an exported network; never imports TensorFlow.

from covpool import Predictor

faces = Predictor("exports/cpu/model.onnx")("photo.jpg")
"""

from covpool.predict.model import Model, ModelError
from covpool.predict.predictor import Face, InputError, Predictor

__all__ = ["Face", "InputError", "Model", "ModelError", "Predictor"]
