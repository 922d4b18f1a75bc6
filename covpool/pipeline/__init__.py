"""The code that the stages share: artifacts, start and end of a stage, worker processes, and the two interpreters."""
