"""`make bench`: the pipeline's speed and memory beside its peers', measured in one run and written to docs/speed.md.

Each side runs in a process and an interpreter of its own and is asked over pipes for one thing at a time, so that the
sides take turns on the same machine in the same minutes. Before a side is timed its loss and gradients must agree with
the truth.
"""
