"""The command `transcribe`: speech in files to text; see --help."""

from preheat import stdio, transcribe

if __name__ == "__main__":
    stdio.run("transcribe", transcribe.main)
