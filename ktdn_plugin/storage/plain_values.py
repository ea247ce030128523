"""What the few names that a checkpoint's pickle may use stand for: plain values and tensors.

Each is built here from arguments that have been checked; none of the functions that the names
belong to is called, or imported.
"""

from __future__ import annotations

import math
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

_DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_STORAGES = {f"torch.{name}Storage": dtype for name, dtype in _DTYPES.items()}
_CONSTANTS: dict[str, Any] = {str(dtype): dtype for dtype in _DTYPES.values()}

_TENSORS = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_qtensor": "quantised",
    "_rebuild_meta_tensor_no_storage": "empty ('meta')",
    "_rebuild_tensor_v3": "8-bit float or other unusual",
    "_rebuild_wrapper_subclass": "wrapped",
    "_rebuild_from_type_v2": "subclassed",
    "_rebuild_parameter_with_state": "subclassed",
    "_rebuild_device_tensor_from_numpy": "foreign devices'",
    "_rebuild_device_tensor_from_cpu_tensor": "foreign devices'",
}
"""Functions that rebuild tensors of kinds that no network here has."""

NUMPY = ("numpy._core.multiarray", "numpy.core.multiarray")
"""Where numpy 2 and numpy 1 have the functions that their pickles name."""

# What mmengine's files have in their logs. Nobody here reads those.
_UNREAD = {
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",
    "numpy.ndarray",
    *(f"{module}._reconstruct" for module in NUMPY),
}
_SCALARS = {f"{module}.scalar" for module in NUMPY}
_NUMBERS = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_NUMBERS |= {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "b1": "?"}


class Damaged(Exception):
    """A pickle that nobody has written in this way."""


class ForeignCode(Exception):
    """A pickle that names a function or class that is not known here."""


class ForeignTensor(Exception):
    """A pickle with a tensor that is not a dense one of ordinary numbers; it says of which kind."""


class Unread:
    """Stands for an object that is not read; it holds nothing of it."""

    __slots__ = ()


class Storage(NamedTuple):
    """The memory of one or more tensors: its numbers in a row."""

    key: str
    numbers: Tensor


class Name(NamedTuple):
    """A name that may be called."""

    path: str


class NumpyType:
    """numpy's description of a number, of a kind that is known to be plain, or of none."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _NUMBERS.get(code) if isinstance(code, str) else None
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if type(state) is tuple and state[1:2] == (">",):
            self.order = ">"


FindStorage = Callable[[str, torch.dtype, int], Tensor]
"""Takes a storage's key, data type and count; returns its numbers in a row."""


class Tensors:
    """The tensors of a file, and the storages that they share.

    Args:
        find_storage: Called for the numbers of each storage, once.
    """

    def __init__(self, find_storage: FindStorage) -> None:
        self._find_storage = find_storage
        self._storages: dict[str, Storage] = {}
        self._tensors: dict[Any, Tensor] = {}
        self._bytes_there = 0
        self._bytes_used = 0

    def storage(self, identity: Any) -> Storage:
        """Finds a storage by what the file calls it."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise Damaged("a reference to something else than numbers")
        kind, key, _, count = identity[1:5]
        dtype = _STORAGES.get(kind.path) if type(kind) is Name else None
        if dtype is None or type(key) is not str or type(count) is not int or count < 0:
            raise Damaged("a reference to no numbers")
        if identity[5:] not in ((), (None,)):
            raise Damaged("a view of numbers, as torch 0.3 wrote them")
        found = self._storages.get(key)
        if found is None:
            found = Storage(key, self._find_storage(key, dtype, count))
            self._storages[key] = found
            self._bytes_there += found.numbers.nbytes
        elif found.numbers.dtype != dtype or found.numbers.numel() != count:
            raise Damaged("numbers of two kinds")
        return found

    def rebuild(
        self, storage: Any, offset: Any, size: Any, stride: Any, _: Any, hooks: Any, more: Any = ()
    ) -> Tensor:
        """Makes a tensor of a part of a storage."""
        if not isinstance(storage, Storage) or more:
            raise Damaged("a tensor without numbers")
        numbers = [offset, *size, *stride]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise Damaged("a tensor of an impossible shape")
        if len(size) != len(stride) or len(size) > 16:
            raise Damaged("a tensor of an impossible shape")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and _overlaps(size, stride):
            raise ForeignTensor("expanded")
        if count and last >= storage.numbers.numel():
            raise Damaged("a tensor larger than the numbers that are there")
        key = storage.key, offset, size, stride
        if key not in self._tensors:
            self._tensors[key] = storage.numbers.as_strided(size, stride, offset if count else 0)
            self._bytes_used += count * storage.numbers.element_size()
            # Some save a part of a tensor beside the whole.
            if self._bytes_used > 2 * self._bytes_there:
                raise ForeignTensor("overlapping")
        return self._tensors[key]


def checked_key(value: Any) -> Any:
    """Lets keys through that are found in no time whatever others there are."""
    if type(value) in (str, bytes, bool, type(None)):
        return value
    if type(value) is int and value.bit_length() < 61:
        return value
    raise Damaged(f"a key of the kind {type(value).__name__}")


def _overlaps(size: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Finds whether two places of a tensor may be the same number."""
    span = 1
    for step, n in sorted((step, n) for n, step in zip(size, stride, strict=True) if n > 1):
        if step < span:
            return True
        span += (n - 1) * step
    return False


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise Damaged("a parameter without numbers")
    return data


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((checked_key(key), value) for key, value in pairs)


def _counter(counts: Any = ()) -> Counter[Any]:
    return Counter({checked_key(key): count for key, count in dict(counts).items()})


def _set(items: Any = ()) -> set[Any]:
    return set(map(checked_key, items))


def _size(items: Any) -> torch.Size:
    if any(type(item) is not int or item.bit_length() > 63 for item in items):
        raise Damaged("an impossible shape")
    return torch.Size(items)


def _device(kind: Any, *index: Any) -> torch.device:
    if type(kind) is not str or [type(one) for one in index] not in ([], [int]):
        raise Damaged("a device without a name")
    return torch.device(kind, *index)


def _encoded(text: Any, coding: Any = "latin1") -> bytes:
    if type(text) is not str or coding != "latin1":
        raise Damaged("bytes that are none")
    return text.encode("latin1")


def _bytearray(content: Any = b"", coding: Any = "latin-1") -> bytearray:
    if type(content) is str and coding == "latin-1":
        content = content.encode("latin-1")
    if type(content) is not bytes:
        raise Damaged("bytes that are none")
    return bytearray(content)


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(real, imaginary)


def numpy_number(kind: Any, content: Any = None) -> Any:
    """Reads one of numpy's numbers as Python's own; :class:`Unread` where it is none."""
    if type(kind) is not NumpyType or kind.code is None or type(content) is not bytes:
        return Unread()
    (value,) = struct.unpack(kind.order + kind.code, content)
    return value


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "builtins.bytes": lambda: b"",  # all that is written so
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
    "_codecs.encode": _encoded,
    "numpy.dtype": NumpyType,
    **dict.fromkeys(_SCALARS, numpy_number),
}
_REBUILD = "torch._utils._rebuild_tensor_v2"
_KNOWN = {_REBUILD, *_CALLS, *_UNREAD, *_STORAGES}


def find_name(module: str, name: str) -> Any:
    """Finds what a name in a file stands for, by looking into a list; nothing is imported.

    Returns:
        A constant, or a :class:`Name` to be called.

    Raises:
        ForeignTensor: If it rebuilds tensors that are not dense ones of ordinary numbers.
        ForeignCode: If it is any other name that is not in the list.
    """
    path = f"{'builtins' if module == '__builtin__' else module}.{name}"
    if path in _CONSTANTS:
        return _CONSTANTS[path]
    if path in _KNOWN:
        return Name(path)
    if module.startswith("torch") and (name in _TENSORS or "Nested" in name):
        raise ForeignTensor(_TENSORS.get(name, "nested"))
    if module == "torch" and name.startswith("Q") and name.endswith("Storage"):
        raise ForeignTensor("quantised")
    raise ForeignCode(path)


def call(name: Name, arguments: tuple[Any, ...], tensors: Tensors) -> Any:
    """Builds what a call of a name stands for.

    Args:
        name: What :func:`find_name` returned.
        arguments: The file's.
        tensors: Builds tensors.
    """
    if name.path == _REBUILD:
        return tensors.rebuild(*arguments)
    if name.path in _UNREAD:
        return Unread()
    if name.path not in _CALLS:
        raise Damaged(f"a call of {name.path}")
    return _CALLS[name.path](*arguments)
