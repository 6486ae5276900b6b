"""The device that a benchmark runs on."""


def settle(device: str) -> None:
    """Wait until a GPU has finished all work that was queued."""
    if device == "cuda":
        import torch  # noqa: PLC0415  slow, and not for the CPU

        torch.cuda.synchronize()
