"""The device that something is measured on."""


def settle(device: str) -> None:
    """Wait for what a GPU was told to do."""
    if device == "cuda":
        import torch  # noqa: PLC0415

        torch.cuda.synchronize()
