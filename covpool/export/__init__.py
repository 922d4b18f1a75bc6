"""A trained network as one ONNX file that needs no TensorFlow, with its model card.

`export_run` and `export_checkpoint` make it; `python -m covpool export` is the command. The current Python builds the
file (`onnx_graph`). One module, `weights`, runs under TensorFlow: it reads the checkpoint and scores val.
"""
