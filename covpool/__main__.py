"""The command `covpool`: use a trained network. A subcommand is loaded, with its argparse parser, when it is called."""

import importlib
import os
import sys

#: Subcommand -> the module whose `main(arguments)` runs it, and what it does.
COMMANDS = {
    "predict": ("covpool.predict.command", "photos, folders, videos or a camera to expressions"),
    "serve": ("covpool.serve.command", "a page and an HTTP interface on this machine"),
    "export": ("covpool.export.command", "a trained network to one ONNX file"),
}
#: Subcommands that compute in NumPy with small matrices only.
SMALL_MATRICES = ("predict", "serve")
USAGE = "usage: covpool {predict,serve,export} ...\n\n" + "\n".join(
    f"  covpool {name:8} {text}" for name, (_, text) in COMMANDS.items()
)


def main(arguments=None):
    """Run a subcommand and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE + "\n\n`covpool COMMAND --help` shows its options.")
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        print(f"{USAGE}\n\ncovpool: expected one of {', '.join(COMMANDS)}, got {arguments[0]!r}", file=sys.stderr)
        return 2
    if arguments[0] in SMALL_MATRICES:
        # Before NumPy is loaded. For 128x128 matrices its threads cost more than they save: an explanation takes 0.3 s
        # with one, and 1.4 s with two on two busy cores.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
