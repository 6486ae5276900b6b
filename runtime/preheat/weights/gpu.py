"""What a GPU wants to be done apart from computing."""

import ctypes

from preheat.timing import Log
from preheat.weights.reading import start

DRIVER = "libcuda.so.1"


def prepare(log: Log) -> bool:
    """Begin to make the context that torch will use, the first GPU's primary one; False without a driver.

    It is made through the driver while torch is still being imported: it takes 0.2 to 0.5 s, most of which is
    the driver's own work. Errors are left to torch: it meets them again, and has the words for them.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return False

    def make() -> None:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        with log.phase("create CUDA context"):
            if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), 0) == 0:
                driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)

    return start(make)


def choose_attention() -> None:
    """Keep torch from attention by cuDNN, its first choice on an H100 and later.

    It makes a plan for each new size, in tenths of a second; sizes here change with every batch, and with
    every token where nothing is captured.
    """
    import torch  # noqa: PLC0415  there by now

    torch.backends.cuda.enable_cudnn_sdp(False)
