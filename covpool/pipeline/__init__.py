"""What the stages share: their artifacts, how a stage begins and ends, worker processes, and the two interpreters."""
