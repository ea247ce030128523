"""Turns what goes wrong while a config's parts are built into lines that name their keys."""

from __future__ import annotations

import contextlib
import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from textwrap import shorten
from types import FrameType
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import Registry, build_from_cfg
from mmengine.runner import BaseLoop

from ktdn_plugin.errors import KTDNError, OptionsError, did_you_mean, is_out_of_memory

BUILDING: Any = (Exception, SystemExit)
"""What building a part may raise: anything, for a ``type`` can be any callable."""

LONGEST = 300
UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '([^']+)'")
MISSING = re.compile(r"\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)")


def explain(error: BaseException, section: Any, where: str) -> list[str]:
    """Returns one line for each problem that kept a part of a config from being built.

    Args:
        error: What was raised.
        section: The section of the config that was built.
        where: Its key in the config; empty for the whole config.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    part = _innermost(frames, section, where)
    text = " ".join((str(error).strip().splitlines() or [""])[0].split())
    if isinstance(error, KTDNError):
        return [_line(part.where, text)]
    if part.misfit:
        return [_line(part.where, f"{part.misfit} must be a dict(type=...)")]
    if part.registry is not None and not part.is_typed:
        return [_line(_join(part.where, "type"), "missing")]
    if part.unknown is not None:
        return [_unknown_type(part)]
    if isinstance(error, TypeError):
        lines = list(_wrong_arguments(text, part, frames))
        if lines:
            return lines
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        text = error.args[0]
        # What mmengine takes out of a section without asking whether it is there.
        if text.isidentifier() and text not in [*part.section, *part.section.values()]:
            return [_line(_join(part.where, text), "missing")]
    text = f"cannot be used: {shorten(text, LONGEST)} ({type(error).__name__})"
    texts = [key for key, value in part.section.items() if isinstance(value, str) and key != "type"]
    if isinstance(error, TypeError) and "'str'" in text and len(texts) == 1:
        value = part.section[texts[0]]
        if _is_number(value):
            text = (
                f"'{value}' must be a number; YAML takes 1e-4 for a text, and 1.0e-4 for a number"
            )
        else:
            text = f"'{value}' {text}"
        return [_line(_join(part.where, texts[0]), text)]
    return [_line(part.where, text)]


def find(name: Any, registry: Registry) -> Any:
    """Returns what a name stands for under the default scope; None where it is unknown."""
    if not isinstance(name, str):  # configs that import their classes name them so
        return name if callable(name) else None
    with contextlib.suppress(*BUILDING), registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(name)
    return None


@contextlib.contextmanager
def explaining_parts(source: str, cfg: Config) -> Iterator[None]:
    """Turns what goes wrong before the first iteration into lines that name the file and the key.

    Args:
        source: The config file.
        cfg: The config.

    Raises:
        KTDNError: In place of any other error, unless a loop was running.
    """
    try:
        yield
    except (KTDNError, OSError):
        raise
    except BUILDING as error:
        if is_out_of_memory(error) or any(
            _is_loop(frame) for frame, _ in traceback.walk_tb(error.__traceback__)
        ):
            raise
        lines = explain(error, cfg._cfg_dict, "")
        raise OptionsError(source, [f"{line}; --debug shows where" for line in lines]) from error


def _is_loop(frame: FrameType) -> bool:
    return frame.f_code.co_name == "run" and isinstance(frame.f_locals.get("self"), BaseLoop)


class _Part(NamedTuple):
    where: str
    section: Mapping[Any, Any]
    registry: Registry | None = None
    item: Any = None
    unknown: str | None = None
    misfit: str = ""
    is_typed: bool = True


def _innermost(frames: list[FrameType], section: Any, where: str) -> _Part:
    """Finds the part inside a section that was being built."""
    part = _Part(where, section if isinstance(section, Mapping) else {})
    for frame in frames:
        if frame.f_code is not build_from_cfg.__code__:
            continue
        given, registry = (frame.f_locals[name] for name in ("cfg", "registry"))
        path = _locate(part.section, given)
        inner = part.where if path is None else _join(part.where, path)
        if not isinstance(given, Mapping):
            return _Part(inner, {}, misfit=shorten(repr(given), LONGEST))
        name, item = frame.f_locals.get("obj_type"), frame.f_locals.get("obj_cls")
        unknown = name if isinstance(name, str) and item is None else None
        # What a class puts together itself is in the config under other keys.
        kept = part.section if path is None else given
        part = _Part(inner, kept, registry, item, unknown, is_typed="type" in given)
    return part


def _locate(node: Any, wanted: Any) -> str | None:
    """Finds where in a section a part of it is, the outermost place first."""
    level = [("", node)]
    while level:
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if _is_part(wanted, value):
                return path
            items: Any = ()
            if isinstance(value, Mapping):
                items = value.items()
            elif isinstance(value, (list, tuple)):
                items = enumerate(value)
            below += [(_join(path, str(key)), item) for key, item in items]
        level = below
    return None


def _is_part(built: Any, part: Any) -> bool:
    """Returns whether something was built from a part; mmengine may have added keys to a copy."""
    if not isinstance(built, Mapping):
        return built is part
    if not isinstance(part, Mapping) or (built and not part):
        return False
    return all(key in built and repr(built[key]) == repr(value) for key, value in part.items())


def _unknown_type(part: _Part) -> str:
    # A hook may hand the name of a further class on under another key.
    key = next((key for key, value in part.section.items() if value == part.unknown), "type")
    assert part.registry is not None
    hint = suggest_type(part.unknown, part.registry)
    return _line(_join(part.where, str(key)), f"there is no '{part.unknown}'{hint}")


def suggest_type(name: Any, registry: Registry) -> str:
    """Suggests by the name itself, whichever scope it is in."""
    names = _names(registry)
    full = {one.rpartition(".")[2]: one for one in reversed(names)}
    last = str(name).rpartition(".")[2]
    if last in full:
        return f"; did you mean '{full[last]}'?"
    hint = did_you_mean(last, full)
    return hint if hint else did_you_mean(name, names)


def _names(registry: Registry) -> list[str]:
    """Lists the names that would have been found, those that need no scope first."""
    with registry.switch_scope_and_registry(None) as scoped:
        names = []
        parent: Registry | None = scoped
        while parent is not None:
            parent.import_from_location()
            names += list(parent.module_dict)
            parent = parent.parent
        for scope, child in scoped.root.children.items():
            if child is not scoped:
                child.import_from_location()
                names += [f"{scope}.{name}" for name in child.module_dict]
    return names


def _wrong_arguments(text: str, part: _Part, frames: list[FrameType]) -> Iterator[str]:
    unexpected, missing = UNEXPECTED.search(text), MISSING.search(text)
    if unexpected and unexpected[2] in part.section:
        owner, name = unexpected.groups()
        last = frames[-1]
        method = getattr(last.f_locals.get("self"), owner, part.item)
        item = last.f_globals.get(owner, method)
        known = [*arguments(item), *(arguments(part.item) if part.item else ())]
        taker = owner if owner != "__init__" else getattr(item, "__name__", str(item))
        yield _line(
            _join(part.where, name), f"{taker} takes no '{name}'{did_you_mean(name, known)}"
        )
    elif missing:
        for name in re.findall(r"'(\w+)'", missing[1]):
            yield _line(_join(part.where, name), "missing")


def arguments(item: Any) -> list[str]:
    """Lists the arguments that a class, with those it is derived from, or a function takes."""
    known = list(getattr(item, "OPTIONS", ()))
    makers = [item]
    if inspect.isclass(item):
        makers = [vars(base)["__init__"] for base in item.__mro__[:-1] if "__init__" in vars(base)]
    for maker in makers:
        with contextlib.suppress(ValueError, TypeError):  # built in
            known += [name for name in inspect.signature(maker).parameters if name != "self"]
    return known


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where and key else where or key


def _line(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text
