"""Ends an instance whose worker is not ready; preheat-watchdog.service runs it."""

from preheat import stdio
from preheat.fleet import watchdog

if __name__ == "__main__":
    stdio.run("watchdog", watchdog.watchdog)
