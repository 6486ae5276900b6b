"""What to tell of Packer's output: the tasks of the play, and what the amazon-ebs source is about."""

import re

# Packer 1.6 indents what a plugin passes on, as Ansible's output; 1.16 writes the arrow before every line.
LINE = re.compile(r"^(?P<mark>==> |    )?(?P<source>[\w-]+(?:\.[\w-]+)?): ?(?P<text>.*)$")
OWN = ("==> ", "amazon-ebs.ami")
TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[(.+?)\]")
PLAY = re.compile(r"PLAY \[")
RECAP = re.compile(r"PLAY RECAP ")
RESULTS = re.compile(r"\S+ +: ok=\d+ ")  # of one host, below the recap
FAILED = re.compile(r"Provisioning step had errors")  # Packer's, where a play ends without a recap


class Progress:
    """Packer's lines one after the other. While the play runs they are Ansible's: its tasks are told."""

    def __init__(self) -> None:
        self.in_play = False

    def told(self, line: str) -> str:
        """What to tell of a line; empty for nothing."""
        match = LINE.match(line.rstrip())
        if not match:
            return ""
        text = match["text"].strip()
        if PLAY.match(text):
            self.in_play = True
        elif RECAP.match(text) or FAILED.match(text):
            self.in_play = False
        if task := TASK.match(text):
            return task[1]
        if self.in_play or RECAP.match(text) or RESULTS.match(text) or not re.match(r"\w", text):
            return ""
        return text if (match["mark"], match["source"]) == OWN else ""
