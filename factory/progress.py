"""The part of Packer's output to show as progress: the play's tasks and the amazon-ebs source's steps."""

import re

# Packer 1.6 indents the output of plugins, such as Ansible's; 1.16 begins every line with the arrow.
LINE = re.compile(r"^(?P<mark>==> |    )?(?P<source>[\w-]+(?:\.[\w-]+)?): ?(?P<text>.*)$")
OWN = ("==> ", "amazon-ebs.ami")
TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[(.+?)\]")
PLAY = re.compile(r"PLAY \[")
RECAP = re.compile(r"PLAY RECAP ")
RESULTS = re.compile(r"\S+ +: ok=\d+ ")  # a host's line below the recap
FAILED = re.compile(r"Provisioning step had errors")  # Packer's message, for a play that ends without a recap


class Progress:
    """Filters Packer's lines, in order. While the play runs they are Ansible's, and only tasks are shown."""

    def __init__(self) -> None:
        self.in_play = False

    def shown(self, line: str) -> str:
        """The text to show for a line; empty if it is not shown."""
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
