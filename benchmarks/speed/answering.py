"""The measured side of a benchmark: a process that does what it is asked, a line of JSON each way.

A request is `{"do": name, "with": {argument: value}}`, the answer `{"answer": ...}`. All else that is printed goes to
stderr. Runs in every interpreter of the benchmark: Python 3.7 syntax, standard library only.
"""

import json
import os
import sys
import time


def serve(commands):
    """Answer requests from stdin until it ends. commands: {name: function of keyword arguments -> JSON value}."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = commands[request["do"]](**request["with"])
        answers.write(json.dumps({"answer": answer}) + "\n")
        answers.flush()


def seconds_of(function, repeats=1):
    """The time that `repeats` calls took, each on its own: a list of seconds."""
    found = []
    for _ in range(repeats):
        before = time.perf_counter()
        function()
        found.append(time.perf_counter() - before)
    return found
