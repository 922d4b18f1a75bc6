"""Programs that inspect the devices and the training.

Start them with `stages/tf`:

    stages/tf -m covpool.diagnostics                    prints which devices this host has
    stages/tf -m covpool.diagnostics.describe           writes the training graph and what it needs
    stages/tf -m covpool.diagnostics.parity gpu npu     compares the training on two devices
"""
