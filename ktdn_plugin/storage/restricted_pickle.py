"""A pickle reader that builds plain values and dense tensors, and calls nothing that a file names.

A pickle is a program. torch's restricted unpickler runs it with a list of functions that it may
call, and believes the numbers that they are called with: how large a tensor is, how deep tuples
are nested, at which address numpy's objects lie. Here no name in a file leads to a function, see
:mod:`ktdn_plugin.storage.plain_values`, and what is built is bounded in depth and in number.
"""

from __future__ import annotations

import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import IO, Any

import torch

from ktdn_plugin.storage.plain_values import (
    Damaged,
    FindStorage,
    Name,
    NumpyType,
    Tensors,
    Unread,
    call,
    checked_key,
    find_name,
)

MOST_OPERATIONS = 4_000_000
"""Of a pickle: a network with its optimiser has about 100,000."""

MOST_VALUES = 10_000_000
"""In all containers of a file, each counted as often as it can be reached from them."""

DEEPEST = 64
"""How deep containers may be nested; Python itself crashes where it walks too deep ones."""

LARGEST_INTEGER = 4096
"""In bits; Python refuses to print larger ones."""


def load(file: IO[bytes], find_storage: FindStorage) -> Any:
    """Reads the pickle at a file's position, and leaves the file right behind it.

    Args:
        file: Open for reading.
        find_storage: Called for the numbers of tensors.

    Returns:
        Plain values and tensors; :class:`Unread` in place of mmengine's logs.

    Raises:
        ForeignCode: If it names functions or classes that are not known here.
        ForeignTensor: If it has tensors that are sparse, quantised, expanded, or the like.
        Damaged: If anything else in it cannot be.
    """
    return _Machine(find_storage).run(file)


_CONTAINERS = (tuple, list, dict, set, OrderedDict, Counter, torch.Size)


class _Machine:
    """The stack machine that a pickle is a program for, less what could do harm."""

    def __init__(self, find_storage: FindStorage) -> None:
        self.tensors = Tensors(find_storage)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        # Of each container: itself, how deep it is nested, and how many values it reaches.
        self.measured: dict[int, tuple[Any, int, int]] = {}
        self.contained: set[int] = set()
        self.values = 0

    def run(self, file: IO[bytes]) -> Any:
        for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if number > MOST_OPERATIONS:
                raise Damaged(f"more than {MOST_OPERATIONS:,d} values")
            name = operation.name
            if name == "STOP":
                return self._pop()
            step = _STEPS.get(name)
            if step is not None:
                step(self, argument)
            elif name in _VALUES:
                self.stack.append(_checked(argument))
            else:
                raise Damaged(f"the operation {name}")
        raise Damaged("no end")

    def _pop(self) -> Any:
        if not self.stack or (self.marks and self.marks[-1] >= len(self.stack)):
            raise Damaged("a value too few")
        return self.stack.pop()

    def _pop_marked(self) -> list[Any]:
        if not self.marks:
            raise Damaged("a mark too few")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _top(self, kind: type) -> Any:
        value = self._pop()
        self.stack.append(value)
        if type(value) is not kind:
            raise Damaged(f"a {type(value).__name__} in place of a {kind.__name__}")
        return value

    def _push(self, value: Any) -> None:
        """Pushes a new value; if it is a container, with all that is in it."""
        if type(value) in _CONTAINERS:
            self.measured[id(value)] = value, 1, 1
            self._measure(value, value)
            if isinstance(value, dict):
                self._measure(value, value.values())
        self.stack.append(value)

    def _grow(self, container: Any, items: Iterable[Any]) -> None:
        """Counts what is put into a container, which no other container must hold yet.

        So what is held is whole: it is in no circle, and its depth and size stay as they are.
        """
        if id(container) in self.contained:
            raise Damaged("a container that grows after it was put into another one")
        self._measure(container, items)

    def _measure(self, container: Any, items: Iterable[Any]) -> None:
        """Counts what is put into a container."""
        own = id(container)
        _, depth, count = self.measured[own]
        for item in items:
            if item is container:
                raise Damaged("a container that holds itself")
            _, deep, many = self.measured.get(id(item), (item, 0, 1))
            if isinstance(item, (str, bytes)):
                many = 1 + len(item) // 64
            elif deep:
                self.contained.add(id(item))
            depth, count = max(depth, deep + 1), count + many
            self.values += many
        if depth > DEEPEST:
            raise Damaged(f"values nested more than {DEEPEST} deep")
        if self.values > MOST_VALUES:
            raise Damaged(f"more than {MOST_VALUES:,d} values")
        self.measured[own] = container, depth, count

    # What the operations do

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def tuple_of(self, count: int | None) -> None:
        items = self._pop_marked() if count is None else [self._pop() for _ in range(count)][::-1]
        self._push(tuple(items))

    def append(self, _: Any) -> None:
        self._extend([self._pop()])

    def appends(self, _: Any) -> None:
        self._extend(self._pop_marked())

    def _extend(self, items: list[Any]) -> None:
        found = self._top(list)
        self._grow(found, items)
        found.extend(items)

    def add_items(self, _: Any) -> None:
        items = self._pop_marked()
        found = self._top(set)
        self._grow(found, items)
        found.update(map(checked_key, items))

    def set_item(self, _: Any) -> None:
        value = self._pop()
        self._set([self._pop(), value])

    def set_items(self, _: Any) -> None:
        self._set(self._pop_marked())

    def _set(self, items: list[Any]) -> None:
        found = self._pop()
        self.stack.append(found)
        if type(found) not in (dict, OrderedDict, Counter) or len(items) % 2:
            raise Damaged("entries of no dictionary")
        self._grow(found, items)
        found.update(zip(map(checked_key, items[::2]), items[1::2], strict=True))

    def put(self, index: int) -> None:
        value = self._pop()
        self.stack.append(value)
        self.memo[index] = value

    def memoize(self, _: Any) -> None:
        self.put(len(self.memo))

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(find_name(module, name))

    def stack_name(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Damaged("a name that is none")
        self.stack.append(find_name(module, name))

    def call(self, _: Any) -> None:
        arguments, name = self._pop(), self._pop()
        if type(arguments) is not tuple or type(name) is not Name:
            raise Damaged("a call of nothing")
        self._push(call(name, arguments, self.tensors))

    def build(self, _: Any) -> None:
        state, found = self._pop(), self._pop()
        self.stack.append(found)
        if type(found) is NumpyType:
            found.__setstate__(state)
        elif type(found) not in (Unread, OrderedDict):  # whose attributes nobody needs
            raise Damaged(f"a state of a {type(found).__name__}")

    def storage(self, _: Any) -> None:
        self.stack.append(self.tensors.storage(self._pop()))


def _checked(value: Any) -> Any:
    if type(value) is int and value.bit_length() > LARGEST_INTEGER:
        raise Damaged("a number of more than a thousand digits")
    return value


_Step = Callable[[_Machine, Any], None]


def _nothing(_: _Machine, __: Any) -> None:
    pass


def _push_value(value: Any) -> _Step:
    return lambda machine, _: machine.stack.append(value)


def _push_new(kind: type) -> _Step:
    return lambda machine, _: machine._push(kind())


def _tuple_of(count: int | None) -> _Step:
    return lambda machine, _: machine.tuple_of(count)


_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_VALUES |= {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"}
_VALUES |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}

_STEPS: dict[str, _Step] = {
    "PROTO": _nothing,
    "FRAME": _nothing,
    "NONE": _push_value(None),
    "NEWTRUE": _push_value(True),
    "NEWFALSE": _push_value(False),
    "EMPTY_LIST": _push_new(list),
    "EMPTY_DICT": _push_new(dict),
    "EMPTY_SET": _push_new(set),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": _tuple_of(None),
    "MARK": _Machine.mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
}
