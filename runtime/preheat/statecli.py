"""The command line of state.py. Only light modules are imported at the top."""

import argparse
import json
from pathlib import Path

from preheat import memory
from preheat.weights.statefile import DTYPES, StateError

FAILED, INTERRUPTED = 1, 130  # exit codes


def state(argv: list[str]) -> int:
    """The command `state.py`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="state.py", description="Make or check a state file.")
    commands = parser.add_subparsers(dest="command", required=True)
    baking = commands.add_parser("bake", help="pack a checkpoint into a state file")
    baking.add_argument("--model", type=Path, required=True, metavar="DIR", help="the checkpoint's folder")
    baking.add_argument("--output", type=Path, required=True, metavar="FILE", help="the state file to write")
    baking.add_argument(
        "--dtype",
        choices=["auto", *DTYPES],
        default="auto",
        help="data type of the weights; auto (default) is the fastest on this machine: float16 with a GPU, "
        "bfloat16 on a CPU with native support, else float32",
    )
    verifying = commands.add_parser("verify", help="check every byte of a state file")
    verifying.add_argument("file", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    from preheat.weights.checkpoint import CheckpointError  # noqa: PLC0415  imports torch
    from preheat.weights.state import bake, log, verify  # noqa: PLC0415  as above

    try:
        report = verify(args.file) if args.command == "verify" else bake(args.model, args.output, args.dtype)
    except (StateError, CheckpointError) as error:
        log(str(error))
        return FAILED
    except Exception as error:
        if short := memory.shortage(error):
            log(f"{short}; {memory.CURE}")
        elif isinstance(error, OSError):  # only bake raises it
            log(f"cannot write {args.output}: {error.strerror}; check the folder, its permissions and space")
        else:
            raise
        return FAILED
    except KeyboardInterrupt:
        log("interrupted")
        return INTERRUPTED
    print(json.dumps(report))
    return 0
