"""The fleet's worker: transcribes the recordings that a queue names; see docs/fleet.md."""

from preheat import stdio
from preheat.fleet import command

if __name__ == "__main__":
    stdio.run("worker", command.worker)
