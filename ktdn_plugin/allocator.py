"""What the process does with memory that it frees: keep it for speed, or give it back at once.

Only glibc, on Linux, can be told; elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # as <malloc.h> of glibc has them
BLOCK = 2**20
"""Larger blocks are separate, and go back whole."""
_MMAP_MAX = 65536  # glibc's own


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, for training on a CPU.

    Each training step frees what the next one allocates again. By default glibc gives large blocks
    back to the system, which zeroes every page before its next use: about a twelfth of a step. The
    process holds its peak from then on. Data workers that it forks do so too.

    Returns:
        Whether anything has changed: only glibc, on Linux, has such settings.
    """
    return _set_allocator({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1})


def return_freed_memory() -> bool:
    """Lets this process give back at once what it frees, where its memory is bounded.

    By default glibc keeps blocks of up to 32 MiB for later, in pieces that may fit nothing: a
    process then holds up to a fifth more than its tensors. Takes a tenth of the time more. What
    was freed before is given back now.

    Returns:
        Whether anything has changed: only glibc, on Linux, has such settings.
    """
    settings = {
        _M_MMAP_MAX: _MMAP_MAX,  # in case keep_freed_memory was called before
        _M_MMAP_THRESHOLD: BLOCK,
        _M_TRIM_THRESHOLD: BLOCK,
    }
    libc = _find_glibc()
    if libc is None or not _set_allocator(settings):
        return False
    libc.malloc_trim(0)
    return True


def _set_allocator(settings: Mapping[int, int]) -> bool:
    libc = _find_glibc()
    return libc is not None and all(bool(libc.mallopt(*each)) for each in settings.items())


def _find_glibc() -> ctypes.CDLL | None:
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") else None
