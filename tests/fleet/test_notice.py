"""The end of an instance, announced in every phase of its work: recordings are finished or handed back."""

from threading import Event

from tests.fleet.gateway import Call
from tests.fleet.instance import Instance

KEY = "recordings/a.flac"
SOON = 16  # s until the end: in one second the worker hands back what it has
HOUR = 3600


def spot(instance: Instance, seconds: float) -> None:
    """EC2 takes it back."""
    instance.metadata.interrupt(seconds)


def terminated(instance: Instance, seconds: float) -> None:
    """Auto Scaling ends it; its hook gives 120 s."""
    del seconds
    instance.metadata.answers["autoscaling/target-lifecycle-state"] = "Terminated"


def signalled(instance: Instance, seconds: float) -> None:
    """systemd stops the unit, which gives 90 s."""
    del seconds
    instance.shut_down()


NOTICES = {"spot": spot, "terminated": terminated, "signalled": signalled}
FINISHED = [(phase, name) for phase in ("idle", "fetching", "decoding", "uploading") for name in NOTICES]
HANDED_BACK = ["fetching", "decoding", "uploading"]


class Hold:
    """Stops a worker in a phase, until it is to go on."""

    def __init__(self, instance: Instance, phase: str) -> None:
        self.reached, self.go_on = Event(), Event()
        self._phase = phase
        instance.gateway.before = self._before

    def _before(self, call: Call) -> None:
        fetching = call.name == "s3:GET" and call.key.endswith(KEY)
        uploading = call.name == "s3:PUT" and call.key.endswith(f"{KEY}.txt")
        if (self._phase == "fetching" and fetching) or (self._phase == "uploading" and uploading):
            self.reached.set()
            self.go_on.wait()
