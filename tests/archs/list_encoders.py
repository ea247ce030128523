"""Writes ``ktdn_plugin/checkpoints/known_encoders.json`` anew, for another version of timm.

Run it by hand: ``python tests/archs/list_encoders.py``. It builds every model of timm that may be
an encoder, without weights, and takes some minutes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections import defaultdict
from pathlib import Path

import timm
from tqdm import tqdm

import ktdn_plugin
from ktdn_plugin.checkpoints.identify import digest_of, shapes_of


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    encoders, others = defaultdict(list), []
    for name in tqdm(timm.list_models()):
        shapes = shapes_of(name)
        if shapes is None:
            others.append(name)
        else:
            encoders[digest_of(shapes)].append(name)
    content = {"timm": timm.__version__, "encoders": dict(encoders), "others": others}
    path = Path(ktdn_plugin.__file__).parent / "checkpoints" / "known_encoders.json"
    path.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
