"""Whether an exported network agrees with TensorFlow, on faces that both scored."""

from __future__ import annotations

import numpy as np

#: Largest difference of a probability that is accepted, and the margin between two classes below which they may swap.
TOLERANCE = 1e-3


def compare(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray], network: dict) -> tuple[dict, list[str]]:
    """Compare the outputs of the exported network with TensorFlow's.

    Args:
        ours, reference: `probabilities` [n, classes], and `bimap` [n, 128, 128] of the reference if the network has it.
        network: the content of `network.json`.

    Returns:
        Figures for the record, and the reasons why the network must not be used; none: it agrees.
    """
    difference = np.abs(ours["probabilities"] - reference["probabilities"])
    ranked = np.sort(reference["probabilities"], axis=1)
    swapped = ours["probabilities"].argmax(1) != reference["probabilities"].argmax(1)
    largest = float(difference.max(initial=0.0))
    figures = {
        "faces": len(difference),
        "largest_difference": largest,
        "same_class": int((~swapped).sum()),
    }
    reasons = []
    if not np.isfinite(ours["probabilities"]).all():
        figures["largest_difference"] = None
        reasons.append("the exported network gives scores that are not finite")
    elif largest > TOLERANCE:
        reasons.append(f"a probability differs by {largest:.1e}; at most {TOLERANCE:g} is accepted")
    clear = swapped & (ranked[:, -1] - ranked[:, -2] > TOLERANCE)
    if clear.any():
        reasons.append(f"{int(clear.sum())} of {len(clear)} faces get another class than from TensorFlow")
    if "bimap" in reference:
        spectrum, outside = _spectrum(reference["bimap"], network)
        figures.update(spectrum)
        reasons.extend(outside)
    return figures, reasons


def _spectrum(matrices: np.ndarray, network: dict) -> tuple[dict, list[str]]:
    """The range of the eigenvalues, and why it does not suit the exported logarithm."""
    values = np.linalg.eigvalsh(matrices.astype(np.float64))
    norms = np.linalg.norm(matrices.astype(np.float64), axis=(1, 2))
    shares = values[:, 0] / np.maximum(norms, np.finfo(np.float32).tiny)
    low, high, share = float(values.min()), float(values.max()), float(shares.min())
    figures = {"smallest_eigenvalue": low, "largest_eigenvalue": high, "smallest_share_of_norm": share}
    settings, lowest = network["spd"], network["logarithm"]["lowest"]
    reasons = []
    # A ridge of just `lowest` is met up to rounding.
    if share < 0.5 * lowest:
        reasons.append(
            f"the smallest eigenvalue is {share:.1e} of its matrix's norm, and the exported logarithm resolves "
            f"{lowest:g}: set spd.ridge to {max(2 * lowest, 1e-5):g} or more, and train again"
        )
    if settings["method"] == "eigh" and (low < settings["epsilon"] or high > settings["maximum"]):
        reasons.append(
            f"eigenvalues from {low:.1e} to {high:.1e} leave the bounds of ReEig, {settings['epsilon']:g} to "
            f"{settings['maximum']:g}, and the exported logarithm does not clip: set spd.epsilon to "
            f"{0.1 * max(low, 1e-11):.0e} or less and spd.maximum to {10 * high:.0e} or more, or spd.method to "
            "iterative, and train again"
        )
    return figures, reasons
