"""The key of a run: a hash of everything that its result depends on, which names its working state."""

from typing import Dict

import numpy as np

from covpool.pipeline import artifacts

#: Numbers of a fingerprint.
FINGERPRINT_LENGTH = 16


def key(facts: Dict) -> str:
    """A hash of everything that a run's result depends on.

    Args:
        facts: what `record.facts` gives, or a run's record, which holds the same.
    """
    depends = {name: facts[name] for name in ("format", "name", "kind", "device", "tensorflow", "parameters", "data")}
    return artifacts.content_hash(dict(depends, code=facts["code"]["hash"]))


def fingerprint(facts: Dict) -> np.ndarray:
    """What must be equal for workers that train together: float32 [16], each number exact.

    Args:
        facts: what `record.facts` gives.
    """
    depends = {name: facts[name] for name in ("format", "name", "kind", "tensorflow", "parameters", "data")}
    # Their devices may be different ones, but must not round differently.
    depends["tf32"] = facts["device"].get("tf32")
    digest = artifacts.content_hash(dict(depends, code=facts["code"]["hash"]))
    return np.frombuffer(bytes.fromhex(digest), ">u2").astype(np.float32)
