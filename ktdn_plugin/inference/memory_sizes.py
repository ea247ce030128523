"""Memory sizes as users write them."""

from __future__ import annotations

import re
from decimal import Decimal

from ktdn_plugin.errors import KTDNError

UNITS = {
    "B": 1,
    **{letter: 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", start=1)},
}


def parse_memory(size: int | str, name: str = "max memory") -> int:
    """Parses a memory size.

    Args:
        size: Bytes, or a string such as ``4GB``, ``2G``, ``800 MB`` or ``1.5GiB``; GB and G are
            1000**3 bytes, GiB 1024**3. A string must have a unit.
        name: What to call it in an error.

    Returns:
        Bytes, at least 1.

    Raises:
        KTDNError: If it is not a valid size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", str(size))
    letters = found.group(2).upper() if found else ""
    if found and not letters and isinstance(size, str):
        # Someone who writes 10 hardly means bytes.
        raise KTDNError(f"{name}: '{size}' has no unit; write it as 4GB or 800MB")
    unit = UNITS.get(letters or "B")
    if isinstance(size, bool) or not found or unit is None:
        raise KTDNError(f"{name}: '{size}' is not a memory size; write it as 4GB or 800MB")
    amount = int(Decimal(found.group(1)) * unit)  # exact: a rounded size would be too small
    if amount < 1:
        raise KTDNError(f"{name}: '{size}' is zero; write it as 4GB or 800MB")
    return amount


def format_memory(size: int) -> str:
    """Formats a size, rounded up so that it is still enough when ``parse_memory`` reads it."""
    # Rounded up: passing the amount a message asks for must work.
    if size >= 10**9:
        return f"{-(-size // 10**7) / 100:.2f}GB"
    return f"{max(-(-size // 10**6), 1)}MB"
