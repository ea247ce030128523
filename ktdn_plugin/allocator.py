"""What the process does with memory that it frees: keep it for speed, or give it back at once.

Only glibc, on Linux, can be told; elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # as <malloc.h> of glibc has them
SMALL_BLOCK, SMALLEST_BLOCK = 2**20, 2**17
_MMAP_MAX = 65536  # glibc's own


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, for training on a CPU.

    Each training step frees what the next one allocates again. By default glibc gives large blocks
    back to the system, which zeroes every page before its next use: about a twelfth of a step. The
        process
    holds its peak from then on. Data workers that it forks do so too.

    Returns:
        Whether anything has changed: only glibc, on Linux, has such settings.
    """
    return _set_allocator({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1})


# fmt: off
_MALLOC_INFO = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd",
    "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)
# fmt: on


class _MallocInfo(ctypes.Structure):
    """What glibc's ``mallinfo2`` gives, see <malloc.h>."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLOC_INFO)


def return_freed_memory(block: int = SMALL_BLOCK) -> bool:
    """Lets this process give back at once what it frees, where its memory is bounded.

    By default glibc keeps blocks of up to 32 MiB for later, in pieces that may fit nothing: a
    process then holds up to a fifth more than its tensors. Takes a tenth of the time more. What
    has been freed before is given back now, see :func:`freed_in_pieces`.

    Args:
        block: Blocks of this many bytes lie apart, and go back whole. Less keeps the memory in
            fewer pieces, and takes more time.

    Returns:
        Whether anything has changed: only glibc, on Linux, has such settings.
    """
    settings = {
        _M_MMAP_MAX: _MMAP_MAX,  # in case that it was to be kept before
        _M_MMAP_THRESHOLD: block,
        _M_TRIM_THRESHOLD: block,
    }
    if not _set_allocator(settings):
        return False
    freed_in_pieces()
    return True


def freed_in_pieces() -> int:
    """Returns the bytes that were freed between blocks in use, and will be filled again.

    They are given back to the system now, but go on to belong to this process.
    """
    libc = _find_glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):  # of glibc 2.33
        return 0
    libc.malloc_trim(0)
    libc.mallinfo2.restype = _MallocInfo
    return int(libc.mallinfo2().fordblks)


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
