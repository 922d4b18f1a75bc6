"""The ported repository's command lines (`train.sh`, `train_8npu.sh`) and its published setting."""
