"""The command that makes and checks state files; see --help."""

from preheat import statecli, stdio

if __name__ == "__main__":
    stdio.run("state", statecli.state)
