"""The model card: what a network is, what it was trained and measured on, what it is for, and how to run it.

M. Mitchell and others: Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations


def text(metadata: dict, network: dict, record: dict, context: dict) -> str:
    """The card as Markdown.

    Args:
        metadata: of the ONNX file.
        network: the content of `network.json`.
        record: of the export.
        context: `name`, `data` (a sentence), `counts` ({split: pictures}) and `scores` ({split: content of
            scores.json}), as far as they are known.
    """
    parts = network["network"]
    lines = [
        f"# Model card: {parts['model_def']} {context.get('name', '')}".rstrip(),
        "",
        "Facial expressions by covariance pooling (Acharya and others, CVPRW 2018, arXiv 1805.04855).",
        "",
        "| | |",
        "|---|---|",
        f"| Classes | {', '.join(metadata['class_names'])} |",
        f"| Network | {parts['model_def']}, {parts['pooling']} pooling, embedding of {parts['embedding_size']} |",
        f"| Parameters | {record['parameters']:,} |",
        f"| Input | one aligned face, {metadata['image_size']}x{metadata['image_size']} pixels, RGB, 0 to 255 |",
        f"| File | {record['bytes'] / 1e6:.1f} MB, fc_1 as {record['weights']} |",
        f"| Code | {metadata['revision'] or 'unknown revision'} |",
        f"| Training data | {context.get('data', 'unknown')}; hash {metadata['data_hash'] or 'unknown'} |",
    ]
    if context.get("counts"):
        split = ", ".join(f"{name}: {count}" for name, count in context["counts"].items())
        lines.append(f"| Faces by split | {split} |")
    lines += ["", "## Measured", "", *_scores(context.get("scores", {})), "", "## Agreement with TensorFlow", ""]
    lines += _agreement(record)
    if "deletion" in record:
        lines += ["", "## Explanation", "", _deletion(record["deletion"])]
    lines += ["", "## Intended use", ""]
    lines += [
        "Research on facial expressions, and demonstrations. The classes are acted or labelled expressions, not",
        "feelings: the network can't tell what a person feels. Do not use it to decide about people.",
        "",
        "## Limits",
        "",
        "- The figures above hold for pictures like those it was trained on. Other cameras, ages, skin tones, glasses,",
        "  masks and head turns were not measured, unless the table says so.",
        "- Probabilities are the network's own and are not calibrated.",
        "- Only the person's face counts: a face that the detector does not find gets no result.",
    ]
    if "drawn" in context.get("data", ""):
        lines.append("- It was trained on drawn faces: an example of the pipeline, not a model for photos of people.")
    if record["exported"]:
        lines += ["", "## How to run", "", "```", "covpool predict --model model.onnx photo.jpg", "```", ""]
    else:
        lines += ["", "The network was not exported, for the reasons above.", ""]
    return "\n".join(lines)


def _scores(scores):
    if not scores:
        return ["No evaluation is recorded."]
    lines = ["| split | faces | accuracy | mean class accuracy | macro F1 |", "|---|---|---|---|---|"]
    for split, found in scores.items():
        cells = [_figure(found, name) for name in ("accuracy", "mean_class_accuracy", "macro_f1")]
        lines.append(f"| {split} | {found.get('images', '')} | {' | '.join(cells)} |")
    return lines


def _figure(found, name):
    """A score with its interval, if the evaluation has one."""
    value = found.get(name)
    if value is None:
        return ""
    interval = found.get("intervals", {}).get(name)
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _deletion(found):
    return (
        f"Mean probability of the predicted class: {found['untouched']:.2f}. With a fifth of each face greyed out, the "
        f"one that the explanation ranks first: {found['explained']:.2f}; with a random fifth: {found['random']:.2f}. "
        f"The sum of a map misses the difference of logits by {found['completeness_error']:.2%} (median)."
    )


def _agreement(record):
    on = "faces of val" if record["compared_on"] == "val" else "patterns of noise (there was no data set)"
    lines = [f"Compared on {record['faces']} {on}: {record['same_class']} get the same class."]
    if record["largest_difference"] is not None:
        lines.append(f"The largest difference of a probability is {record['largest_difference']:.1e}.")
    if "smallest_share_of_norm" in record:
        lines.append(
            f"Eigenvalues lie between {record['smallest_eigenvalue']:.2e} and {record['largest_eigenvalue']:.2e}; the "
            f"smallest is {record['smallest_share_of_norm']:.1e} of its matrix's norm."
        )
    return lines + [f"- Refused: {reason}." for reason in record["reasons"]]
