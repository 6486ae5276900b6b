"""The first GPU's context, made while torch is still being imported."""

import ctypes

from preheat.threads import start
from preheat.timing import Log

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
