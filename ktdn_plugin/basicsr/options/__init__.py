"""Options files: one schema of what they may say, and what reads them by it."""

from __future__ import annotations

from typing import Any

Options = dict[str, Any]
