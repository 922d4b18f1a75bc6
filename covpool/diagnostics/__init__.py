"""Programs that look at devices and at training from above: what is here, what a graph needs, where two runs part.

stages/tf -m covpool.diagnostics
stages/tf -m covpool.diagnostics.describe
stages/tf -m covpool.diagnostics.parity gpu npu
"""
