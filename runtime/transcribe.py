"""The command `transcribe`: speech in files to text; see --help."""

from preheat import cli, stdio

if __name__ == "__main__":
    stdio.run("transcribe", cli.transcribe)
