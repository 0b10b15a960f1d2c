"""Memory between the steps of a training on a CPU."""

import ctypes
import platform

# Of malloc.h in glibc. Large blocks are not mapped one by one, and the end of the heap is never given back.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Lets this process keep what a step freed for the next one; does nothing where the C library is not glibc.

    A step's activations are freed in backward. glibc gives blocks of 32 MiB and more back to the system at once, which
    clears every page anew for the next step. The process, and data workers that are forked from it, then hold the
    memory of their largest step to their end. Allocators that are preloaded (jemalloc, tcmalloc) are not concerned.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, -1)
