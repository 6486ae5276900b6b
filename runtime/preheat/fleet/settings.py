"""The worker's settings, from the environment that the launch template writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from preheat.fleet.choices import NAMES, Choices, chosen
from preheat.options import UsageError
from preheat.places import s3


@dataclass(frozen=True)
class Settings:
    """What a worker has to know."""

    fleet: str  # its name
    queue: str  # URL
    output: s3.Location  # a prefix
    log_group: str  # "": job records go to standard output alone
    group: str  # of Auto Scaling; "": the instance does not end itself
    hook: str  # of that group, for ending instances
    idle: float  # s without work, after which the instance ends itself
    ready_file: Path | None  # tells the watchdog that the worker is ready
    choices: Choices


def settings(environment: Mapping[str, str]) -> Settings:
    """The settings. Raises UsageError."""

    def needed(name: str) -> str:
        if value := environment.get(name):
            return value
        raise UsageError(
            f"{name} is not set; the fleet's launch template writes it to /etc/preheat/worker.env"
        )

    def seconds(name: str, default: float) -> float:
        value = environment.get(name) or str(default)
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf"):
            raise UsageError(f"{name} is {value!r}; give seconds, above 0")
        return number

    written = needed("PREHEAT_OUTPUT")
    if not written.startswith(s3.SCHEME):
        raise UsageError(f"PREHEAT_OUTPUT is {written!r}; write s3://bucket/prefix/")
    try:
        output = s3.location(written).beneath("")
    except UsageError as error:
        raise UsageError(f"PREHEAT_OUTPUT: {error}") from error
    said = {name: environment.get(f"PREHEAT_{name.upper()}", "") for name in NAMES}
    folder = environment.get("RUNTIME_DIRECTORY")  # systemd sets it
    try:
        choices = chosen(said, Choices())
    except UsageError as error:
        raise UsageError(f"PREHEAT_LANGUAGE, _TASK, _FORMATS or _PROMPT: {error}") from error
    return Settings(
        fleet=needed("PREHEAT_FLEET"),
        queue=needed("PREHEAT_QUEUE_URL"),
        output=output,
        log_group=environment.get("PREHEAT_LOG_GROUP", ""),
        group=environment.get("PREHEAT_GROUP", ""),
        hook=environment.get("PREHEAT_HOOK", ""),
        idle=seconds("PREHEAT_IDLE_SECONDS", 300),
        ready_file=Path(folder) / "ready" if folder else None,
        choices=choices,
    )
