"""A page and an HTTP interface around one `Predictor`, on this computer only.

    covpool serve --model exports/cpu/model.onnx

`app` answers requests, `limits` says which of them are refused, `answers` turns faces into JSON, and `page/` is what
the browser shows. Nothing of the model is computed in the browser, nothing is stored, and nothing leaves the computer.
"""
