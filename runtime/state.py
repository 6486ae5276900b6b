"""The command that makes and checks state files; see --help."""

from preheat import stdio
from preheat.weights import state

if __name__ == "__main__":
    stdio.run("state", state.main)
