"""Memory between the steps of a training on a CPU."""

import ctypes
import platform

# Of malloc.h in glibc. Large blocks are not mapped one by one, and the end of the heap is not given back.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Lets this process keep what a step freed for the next one; does nothing where the C library is not glibc.

    A step's activations are freed in backward. glibc gives blocks of 32 MiB and more back to the system at once, which
    then clears every page anew for the next step: a tenth of the time of a small captioner's step
    (docs/results.md). Where MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ … or another allocator
    (LD_PRELOAD of jemalloc, tcmalloc) were chosen, this changes little.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
