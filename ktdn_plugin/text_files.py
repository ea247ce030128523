"""Reads the user's text files, with bounds on size and time, and YAML of bounded size."""

from __future__ import annotations

import os
import re
import select
import stat
import time
from pathlib import Path
from typing import Any

import yaml

from ktdn_plugin.errors import KTDNError

LARGEST_YAML = 2**17
"""Bytes of an options file, and characters of what its aliases expand to; ours have 5,000."""

LARGEST_TEXT = 2**28
"""Bytes of a list of images: some million names."""

LONGEST_WAIT = 60
"""Seconds for a pipe's writer to come to its end."""

DEEPEST = 32
EXPONENT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
"""Numbers that YAML 1.1 takes for texts."""
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CORE = ("str", "int", "float", "bool", "null", "seq", "map")


def read_text(path: str | Path, at_most: int = LARGEST_TEXT, *, may_be_pipe: bool = False) -> str:
    """Reads a text file.

    Args:
        path: The file.
        at_most: Bytes that it may have.
        may_be_pipe: Read a pipe as well, such as a shell's ``<(command)``, whose text is there
            only once: for callers that read it no second time.

    Raises:
        KTDNError: If it cannot be read, is not a regular file (a pipe or a device may never end),
            is larger, or is not UTF-8; if a pipe's writer takes too long.
    """
    try:
        # A named pipe would wait for a writer in opening already.
        flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, os.O_RDONLY | flags)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode):
                content = file.read(at_most + 1)
            elif may_be_pipe and stat.S_ISFIFO(mode):
                content = _read_pipe(descriptor, path, at_most + 1)
            else:
                raise KTDNError(f"{path}: not a file; save the text as a file, and give that")
    except OSError as error:
        raise KTDNError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL in its name
        raise KTDNError(f"{str(path)!r}: is not a valid file name ({error})") from error
    if len(content) > at_most:
        raise KTDNError(f"{path}: larger than {at_most:,} bytes; is it the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise KTDNError(f"{path}: not a text file in UTF-8") from error


def _read_pipe(descriptor: int, path: str | Path, at_most: int) -> bytes:
    """Reads a pipe to its end, or some bytes of it."""
    content = b""
    until = time.monotonic() + LONGEST_WAIT
    while len(content) < at_most:
        ready, _, _ = select.select([descriptor], [], [], max(until - time.monotonic(), 0))
        if not ready:
            raise KTDNError(f"{path}: this pipe was not closed within {LONGEST_WAIT} seconds")
        chunk = os.read(descriptor, at_most - len(content))
        if not chunk:
            break
        content += chunk
    return content


class _Loader(yaml.SafeLoader):
    """YAML's core types alone; 1e-4 is a number, a key given twice an error."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            made = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            kind = str(node.tag).rpartition(":")[2]
            shown = str(node.value)[:40]
            raise _problem(f"'{shown}' is not a valid {kind}", node) from error
        if isinstance(made, int) and abs(made) >= 2**64:
            raise _problem(f"'{node.value[:40]}' is too large a number", node)
        return made

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _problem("a section is expected here", node)
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key must be a single word", key_node)
            if key_node.value in seen and key_node.value != "<<":
                raise _problem(f"the key '{key_node.value}' is given twice", key_node)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_constructors = {
    **{
        f"tag:yaml.org,2002:{name}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{name}"]
        for name in _CORE
    },
    None: yaml.SafeLoader.yaml_constructors[None],
}
# YAML 1.1, which PyYAML follows, makes dates of 2001-01-01, which is a name here.
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# And it takes 1e-4 for a string: it wants a dot and a signed exponent.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    EXPONENT,
    list("-+.0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """Parses YAML of bounded size into dicts, lists, strings, numbers, booleans and None.

    Args:
        text: The YAML.
        source: What messages begin with.

    Raises:
        KTDNError: If it is not YAML, wants other objects built, or what it says, aliases expanded,
            is too much, too deep, or has a number or a character that nothing can use.
    """
    if len(text) > LARGEST_YAML:
        raise KTDNError(f"{source}: longer than {LARGEST_YAML:,} characters")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 0)
        return loader.construct_document(node)
    except RecursionError as error:
        raise KTDNError(f"{source}: nested too deeply") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise KTDNError(f"{source}{where}: {problem}") from error


def _problem(text: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)


def _measure(node: yaml.Node, known: dict[int, int | None], depth: int) -> int:
    """Returns the characters of a node with its aliases expanded.

    Args:
        node: The node.
        known: Of nodes looked at before; None for those around this one.
        depth: How many nodes there are around it.
    """
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise _problem("refers to itself", node)
        return size
    if depth > DEEPEST:
        raise _problem("nested too deeply", node)
    known[id(node)] = None
    if isinstance(node, yaml.ScalarNode):
        size = 1 + len(node.value)
        found = _CONTROLS.search(node.value)
        if found:
            raise _problem(f"the character {found.group()!r} is not allowed in options", node)
    else:
        children = node.value
        if isinstance(node, yaml.MappingNode):
            children = [one for pair in node.value for one in pair]
        size = 1 + sum(_measure(child, known, depth + 1) for child in children)
    if size > 2 * LARGEST_YAML:
        raise _problem("its aliases expand to too much", node)
    known[id(node)] = size
    return size
