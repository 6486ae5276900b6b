"""Creates the first GPU's context while torch is still being imported."""

import ctypes

from preheat.threads import start
from preheat.timing import Log

DRIVER = "libcuda.so.1"


def prepare(log: Log) -> bool:
    """Start to create the context that torch will use, the first GPU's primary one; False without a driver.

    That takes 0.2 to 0.5 s, most of it in the driver, which is called directly while torch is still being
    imported. Errors are ignored: torch meets them again, and has good messages for them.
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
