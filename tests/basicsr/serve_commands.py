"""One of two processes that run a command together, again and again: a JSON line in, one out.

The first line out is "ready".

What takes seconds, loading torch and BasicSR, is done once; each command joins the other process
anew, at a port of its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

from ktdn_plugin import cli
from ktdn_plugin.basicsr import register


def run(request: dict) -> dict:
    os.chdir(request["folder"])
    os.environ["MASTER_PORT"] = str(request["port"])
    with tempfile.TemporaryFile() as errors:
        kept = os.dup(2)
        os.dup2(errors.fileno(), 2)
        try:
            code = cli.main(request["words"])
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        errors.seek(0)
        return {"code": code, "errors": errors.read().decode()}


if __name__ == "__main__":
    cli.SECONDS_TO_SPEAK = 0
    register()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a command prints is no answer
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)
