"""Turns errors in building a config's parts into lines that name their keys."""

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

from ktdn_plugin.errors import KTDNError, OptionsError, did_you_mean, first_line, is_out_of_memory

BUILDING: Any = (Exception, SystemExit)
"""What building a part may raise: anything, as a ``type`` can be any callable."""

LONGEST = 300
UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '([^']+)'")
MISSING = re.compile(r"\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)")


def find(section: Mapping[str, Any], registry: Registry, key: str = "type") -> Any:
    """Returns what a section's type refers to in its scope, None if unknown."""
    name = section.get(key)
    if not isinstance(name, str):  # configs in the pure Python style hold the classes themselves
        return name if callable(name) else None
    scope = section.get("_scope_")
    with contextlib.suppress(*BUILDING), registry.switch_scope_and_registry(scope) as scoped:
        return scoped.get(name)
    return None


def parts_of(section: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yields a section and everything in it, each with its key."""
    yield where, section
    items: Any = ()
    if isinstance(section, Mapping):
        items = section.items()
    elif isinstance(section, (list, tuple)):
        items = enumerate(section)
    for key, value in items:
        yield from parts_of(value, _join(where, str(key)))


@contextlib.contextmanager
def explaining_parts(source: str, cfg: Config) -> Iterator[None]:
    """Turns errors before the first iteration into lines that name the file and the key.

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


def explain(error: BaseException, section: Any, where: str) -> list[str]:
    """Returns one line for each problem that kept a part of a config from being built.

    Args:
        error: What was raised.
        section: The section of the config that was built.
        where: Its key in the config; empty for the whole config.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    part = _innermost(frames, section, where)
    text = " ".join(first_line(error).split())
    if isinstance(error, KTDNError):
        return [_line(part.where, text)]
    if not isinstance(part.section, (Mapping, list, tuple)):
        wanted = "a dict" if part.registry is None else "a dict(type=...)"
        return [_line(part.where, f"{shorten(repr(part.section), LONGEST)} must be {wanted}")]
    if not isinstance(part.section, Mapping):
        return [_line(part.where, _cannot(text, error))]
    if part.registry is not None and "type" not in part.section:
        return [_line(_join(part.where, "type"), "missing")]
    if part.unknown is not None:
        return [_unknown_type(part)]
    lines = list(_wrong_arguments(text, part, frames)) if isinstance(error, TypeError) else []
    if lines:
        return lines
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        text = error.args[0]
        # A key that mmengine takes from a section without checking that it exists.
        if text.isidentifier() and text not in [*part.section, *part.section.values()]:
            return [_line(_join(part.where, text), "missing")]
    texts = [key for key, value in part.section.items() if isinstance(value, str) and key != "type"]
    if isinstance(error, TypeError) and "'str'" in text and len(texts) == 1:
        value = part.section[texts[0]]
        return [_line(_join(part.where, texts[0]), f"the text '{value}' {_cannot(text, error)}")]
    return [_line(part.where, _cannot(text, error))]


class _Part(NamedTuple):
    where: str
    section: Any
    registry: Registry | None = None
    item: Any = None
    unknown: str | None = None


def _innermost(frames: list[FrameType], section: Any, where: str) -> _Part:
    """Finds the part inside a section that was being built."""
    part = _Part(where, section)
    for frame in frames:
        if frame.f_code is not build_from_cfg.__code__:
            continue
        given, registry = (frame.f_locals[name] for name in ("cfg", "registry"))
        places = [place for place, one in parts_of(part.section) if _is_part(given, one)]
        # What a class assembles itself is in the config under other keys.
        place = min(places, key=lambda place: place.count("."), default=None)
        name, item = frame.f_locals.get("obj_type"), frame.f_locals.get("obj_cls")
        part = _Part(
            _join(part.where, place or ""),
            given if place is not None or not isinstance(given, Mapping) else part.section,
            registry,
            item,
            name if isinstance(name, str) and item is None else None,
        )
    return part


def _is_part(built: Any, part: Any) -> bool:
    """Returns whether something was built from a part, of which mmengine may extend a copy."""
    if not isinstance(built, Mapping):
        return built is part
    if not isinstance(part, Mapping) or (built and not part):
        return False
    return all(key in built and repr(built[key]) == repr(value) for key, value in part.items())


def _unknown_type(part: _Part) -> str:
    # A hook may pass on the name of another class under a different key.
    key = next((key for key, value in part.section.items() if value == part.unknown), "type")
    assert part.registry is not None
    hint = _suggest_type(str(part.unknown), part.registry)
    return _line(_join(part.where, str(key)), f"there is no '{part.unknown}'{hint}")


def _suggest_type(name: str, registry: Registry) -> str:
    """Suggests similar names from any scope, those that need no scope first."""
    names: list[str] = []
    known: Registry | None = registry
    while known is not None:
        known.import_from_location()
        names += known.module_dict
        known = known.parent
    for scope, child in registry.root.children.items():
        child.import_from_location()
        names += [f"{scope}.{one}" for one in child.module_dict]
    full = {one.rpartition(".")[2]: one for one in reversed(names)}
    last = name.rpartition(".")[2]
    if last in full:
        return f"; did you mean '{full[last]}'?"
    return did_you_mean(last, full) or did_you_mean(name, names)


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
    """Lists the arguments of a function, or of a class and its bases."""
    known = list(getattr(item, "OPTIONS", ()))
    makers = [item]
    if inspect.isclass(item):
        makers = [vars(base)["__init__"] for base in item.__mro__[:-1] if "__init__" in vars(base)]
    for maker in makers:
        with contextlib.suppress(ValueError, TypeError):  # built-ins
            known += [name for name in inspect.signature(maker).parameters if name != "self"]
    return known


def _cannot(text: str, error: BaseException) -> str:
    return f"cannot be used: {shorten(text, LONGEST)} ({type(error).__name__})"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where and key else where or key


def _line(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text
