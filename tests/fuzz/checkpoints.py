"""Fuzzes what reads checkpoints: pickles of allowed words in any order, and damaged real files.

Whatever a file holds, reading it ends, soon, in a result or in one line; it touches no other file,
starts no process, and takes little memory. Children run many cases each, and say which one they are
at: of one that dies or hangs the parent knows what killed it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import pickle
import pickletools
import queue
import random
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import Figures

PATIENCE = 30
"""Seconds for one case; a child's first takes longer, since it loads torch."""

LARGEST_GROWTH = 512 * 2**20
CASES_OF_A_CHILD = 2000

NAMES = (
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor",
    "torch._utils _rebuild_meta_tensor_no_storage",
    "torch FloatStorage",
    "torch LongStorage",
    "torch QInt8Storage",
    "torch float32",
    "torch Size",
    "torch device",
    "torch Tensor",
    "torch.nn.parameter Parameter",
    "collections OrderedDict",
    "collections Counter",
    "__builtin__ getattr",
    "__builtin__ set",
    "__builtin__ bytearray",
    "__builtin__ complex",
    "__builtin__ eval",
    "posix mkdir",
    "_codecs encode",
    "mmengine.logging.history_buffer HistoryBuffer",
    "numpy ndarray",
    "numpy dtype",
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
)
TEXTS = ("params", "state_dict", "meta", "ktdn", "storage", "cpu", "0", "1", "f8", "O", "V8", "<")
TEXTS += ("mean", "__class__", "__init__", "latin1", "encoder.body.conv1.weight", "é" * 40)
NUMBERS = (0, 1, 2, 3, 7, 255, 2**31 - 1, -1, -(2**31), 2**62, 2**100)


def run(seed: int, seconds: float, folder: Path) -> Figures:
    """Runs cases for a time.

    Args:
        seed: The same one gives the same cases.
        seconds: How long.
        folder: Empty; for files.
    """
    figures = Figures()
    end = time.monotonic() + seconds
    first = 0
    while time.monotonic() < end:
        first = _run_child(seed, first, end, folder, figures)
    return figures


def _run_child(seed: int, first: int, end: float, folder: Path, figures: Figures) -> int:
    words = [sys.executable, __file__, str(seed), str(first), str(CASES_OF_A_CHILD), str(folder)]
    child = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    lines: queue.Queue[str | None] = queue.Queue()
    said: list[str] = []
    threading.Thread(target=lambda: [*map(lines.put, child.stdout), lines.put(None)]).start()
    reader = threading.Thread(target=lambda: said.extend(child.stderr))
    reader.start()
    case, patience, ended = f"{first}: (start)", 10.0 * PATIENCE, False
    while not ended:
        try:
            line = lines.get(timeout=patience)
        except queue.Empty:
            figures.fault("no answer", f"seed {seed}, case {case}")
            break
        if line is None:
            ended = True
            continue
        word, _, rest = line.strip().partition(" ")
        patience = PATIENCE
        if word == "case":
            case = rest
        elif word == "fault":
            kind, _, what = rest.partition("|")
            figures.fault(kind, f"seed {seed}, case {case}: {what}")
        else:
            figures.count(word)
        if word != "case" and time.monotonic() > end:
            break
    child.kill()
    code = child.wait()
    reader.join()
    if ended and code:
        kind = f"signal {-code}" if code < 0 else f"exit {code}"
        figures.fault(kind, f"seed {seed}, case {case}: {''.join(said)[-300:]}")
    return int(case.partition(":")[0]) + 1


# What a child does


def child(seed: int, first: int, count: int, folder: Path) -> None:
    """Runs cases, and says each one's number before and what came of it after."""
    import resource
    import warnings

    sys.path[:0] = [str(Path(__file__).parent.parent)]
    import torch

    from ktdn_plugin import KTDNError
    from ktdn_plugin.checkpoints import Checkpoint
    from ktdn_plugin.checkpoints.convert import convert
    from ktdn_plugin.checkpoints.info import describe_checkpoint
    from ktdn_plugin.checkpoints.networks import load_network

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    own = folder / str(first)
    own.mkdir()
    bases = _Bases()
    touched: list[str] = []
    watching = False

    def watch(event: str, arguments: tuple) -> None:
        if not watching:
            return
        changes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
        if changes or event in _EFFECTS:
            touched.append(f"{event} {arguments[:1]}")

    sys.addaudithook(watch)
    readers = (Checkpoint.read, load_network, describe_checkpoint)
    for number in range(first, first + count):
        rng = random.Random(f"{seed} {number}")
        kind, name, content = bases.make(rng)
        path = own / name
        path.write_bytes(content)
        print(f"case {number}: {kind}", flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        watching = rng.random() < 0.9
        outcome = "read"
        try:
            if watching:
                rng.choice(readers)(path)
            else:
                convert(path, own / "out.safetensors", overwrite=True)
        except KTDNError as error:
            outcome = "refused"
            if len(str(error).splitlines()) != 1 or len(str(error)) > 3000:
                outcome = f"fault lines|{str(error)[:200]!r}"
        except BaseException as error:
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            code = where.tb_frame.f_code if where else None
            place = f"{Path(code.co_filename).name}:{where.tb_lineno}" if code else ""
            outcome = f"fault traceback|{type(error).__name__} at {place}: {str(error)[:100]!r}"
        watching = False
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if touched:
            outcome = f"fault touched|{touched[:3]}"
            touched.clear()
        elif grown > LARGEST_GROWTH:
            outcome = f"fault memory|{grown >> 20} MiB more"
        print(outcome, flush=True)
        path.unlink()


_EFFECTS = {
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.system",
    "os.exec",
    "os.fork",
    "os.symlink",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
    "shutil.rmtree",
}


class _Bases:
    """Real content, to be changed."""

    def __init__(self) -> None:
        import numpy as np
        import torch
        from checkpoint_files import METADATA, described_network
        from mmengine.logging import HistoryBuffer

        history = HistoryBuffer()
        history.update(0.5)
        self.network = described_network().state_dict()
        self.metadata = METADATA
        few = dict(itertools.islice(self.network.items(), 4))
        few |= {key: value for key, value in self.network.items() if key.startswith("fam4.conv1")}
        few = {key: value.flatten()[:6].clone() for key, value in few.items()}
        turned = torch.arange(12.0).view(3, 4).t()
        contents = [
            {"params": few, "params_ema": few, "ktdn": METADATA},
            {"model": {f"module.{key}": value for key, value in few.items()}},
            {
                "meta": {"iter": 2, "ktdn": METADATA},
                "state_dict": {f"student.{key}": value for key, value in few.items()},
                "message_hub": {"log_scalars": {"loss": history}, "best": np.float64(3.5)},
            },
            {"epoch": 1, "iter": 40, "optimizers": [{"state": {0: {"x": turned}}}]},
        ]
        self.small = [_saved(one, zipped) for one in contents for zipped in (True, False)]
        self.tables: list[bytes] = []
        for content in contents:
            with zipfile.ZipFile(io.BytesIO(_saved(content, True))) as archive:
                self.tables.append(archive.read("archive/data.pkl"))

    def make(self, rng: random.Random) -> tuple[str, str, bytes]:
        """Makes a case: its kind, a file's name, and content."""
        makers = (self._bytes, self._words, self._program, self._calls, self._values)
        weights = (27, 35, 15, 20, 3)
        maker = rng.choices(makers, weights)[0]
        content = maker(rng)
        name = "net.safetensors" if maker == self._bytes and rng.random() < 0.1 else "net.pth"
        return maker.__name__[1:], name, content

    def _bytes(self, rng: random.Random) -> bytes:
        content = bytearray(rng.choice(self.small))
        if rng.random() < 0.2:
            from safetensors.torch import save

            few = {"a": self.network["tail.1.bias"]}
            content = bytearray(save(few, {"format": "pt", "ktdn": "{}"}))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(content))
            how = rng.random()
            if how < 0.6:
                content[at] = rng.randrange(256)
            elif how < 0.8:
                number = struct.pack(rng.choice(["<I", "<Q", "<H"]), rng.choice((0, 1, 2**16 - 1)))
                content[at : at + len(number)] = number
            elif how < 0.9:
                del content[at : at + rng.randint(1, 40)]
            else:
                content[at:at] = content[at : at + rng.randint(1, 40)]
            content = content or bytearray(b"\0")
        return bytes(content)

    def _words(self, rng: random.Random) -> bytes:
        """Puts a real pickle's operations into another order, and others between them."""
        table = rng.choice(self.tables)
        starts = [at for _, _, at in pickletools.genops(table)] + [len(table)]
        words = [table[one:other] for one, other in itertools.pairwise(starts)]
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(1, len(words))
            how = rng.random()
            if how < 0.3:
                words[at] = _word(rng)
            elif how < 0.5:
                other = rng.randrange(1, len(words))
                words[at], words[other] = words[other], words[at]
            elif how < 0.7:
                words[at:at] = words[at : at + rng.randint(1, 12)]
            elif how < 0.8:
                words[at:at] = [_word(rng)] * rng.choice((1, 2, 100, 3000))
            else:
                del words[at : at + rng.randint(1, 4)]
        return self._wrapped(b"".join(words), rng)

    def _program(self, rng: random.Random) -> bytes:
        """Makes a pickle of words alone."""
        words = [_word(rng) for _ in range(rng.choice((5, 20, 60, 200)))]
        if rng.random() < 0.3:
            words = list(_folded(words[:6], rng))
        return self._wrapped(b"\x80\x02" + b"".join(words) + b".", rng)

    def _calls(self, rng: random.Random) -> bytes:
        """Makes a pickle of calls with arguments of the right kind and the wrong value."""
        found = b"".join(b"X\1\0\0\0%c" % (97 + n) + _call(rng) for n in range(rng.randint(1, 6)))
        if rng.random() < 0.1:
            found += b"N" + b"\x85" * rng.choice((10, 70, 10**5)) + b"N"
        return self._wrapped(b"\x80\x02}(" + found + b"u.", rng)

    def _wrapped(self, table: bytes, rng: random.Random) -> bytes:
        made = io.BytesIO()
        if rng.random() < 0.1:
            made.write(b"".join(pickle.dumps(one, 2) for one in (_MAGIC, 1001, _SYSTEM)) + table)
            made.write(pickle.dumps(["0"], 2) + struct.pack("<q", 6) + bytes(24))
            return made.getvalue()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("net/data.pkl", table)
            for key in range(rng.choice((1, 10, 20))):
                archive.writestr(f"net/data/{key}", bytes(rng.choice((0, 4, 24, 24, 4000))))
        return made.getvalue()

    def _values(self, rng: random.Random) -> bytes:
        """Puts odd values into a whole network's file."""
        import torch

        weights: dict[str, Any] = dict(self.network)
        for key in rng.sample(list(weights), rng.choice((0, 1, 2))):
            value = weights[key]
            odd: list[Any] = [
                value.to(torch.float64),
                value.to(torch.int8),
                value.to(torch.complex64),
                value.to(torch.float8_e5m2),
                value * float("nan"),
                value.flatten()[:0],
                value.unsqueeze(0),
                value.new_zeros(()),
                value.new_zeros((0, 10**12)),
                value.new_zeros(1).expand(10**5, 10**7),
                value.to_sparse(),
                value.to("meta"),
                None,
                3,
            ]
            weights[key] = rng.choice(odd)
        if rng.random() < 0.2:
            weights[rng.choice(("mean", "std"))] = rng.choice(
                [torch.zeros(3), torch.zeros(10**6), torch.tensor(float("nan")), "mean"]
            )
        prefix = rng.choice(("", "", "net.", "module._orig_mod.", "student.", "a." * 2000))
        weights = {prefix + key: value for key, value in weights.items()}
        described = {"network": {**self.metadata["network"]}, "run": {"stage": "teacher"}}
        for _ in range(rng.choice((0, 1, 3))):
            where = rng.choice((described, described["network"], described["run"]))
            key = rng.choice((*self.metadata, *self.metadata["network"], "averaged", "found"))
            where[key] = _value(rng)
            described.setdefault("network", {})
            if not isinstance(described["network"], dict) or not isinstance(described["run"], dict):
                break
        content: Any = {rng.choice(("params", "params_ema")): weights, "ktdn": described}
        if rng.random() < 0.2:
            content["params" if rng.random() < 0.5 else "params_ema"] = _value(rng)
        if rng.random() < 0.2:
            content = {"meta": {"ktdn": described}, "state_dict": weights}
            if rng.random() < 0.5:
                content["ema_state_dict"] = _value(rng)
        try:
            return _saved(content, rng.random() < 0.8)
        except (RuntimeError, NotImplementedError, pickle.PicklingError):
            return _saved({"params": _value(rng)}, True)


_MAGIC = 0x1950A86A20F9469CFC6C
_SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


def _saved(content: Any, zipped: bool) -> bytes:
    import torch

    made = io.BytesIO()
    torch.save(content, made, _use_new_zipfile_serialization=zipped)
    return made.getvalue()


def _value(rng: random.Random, depth: int = 0) -> Any:
    how = rng.randrange(12 if depth < 4 else 8)
    if how == 8:
        return {rng.choice(TEXTS): _value(rng, depth + 1) for _ in range(rng.randrange(4))}
    if how == 9:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if how == 10:
        return tuple(_value(rng, depth + 1) for _ in range(rng.randrange(4)))
    if how == 11:
        return [0.5] * rng.choice((3, 3, 10**5))
    encoder = rng.choice(("hf-hub:timm/resnet18", "resnet18", "x" * 999))
    plain = (None, True, 0.5, float("nan"), float("inf"), rng.choice(NUMBERS), rng.choice(TEXTS))
    return (*plain, encoder)[how]


def _word(rng: random.Random) -> bytes:
    """Makes one operation of a pickle."""
    how = rng.random()
    if how < 0.25:
        module, name = rng.choice(NAMES).split()
        return f"c{module}\n{name}\n".encode()
    if how < 0.4:
        text = rng.choice(TEXTS).encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if how < 0.55:
        return pickle.dumps(rng.choice(NUMBERS), 2)[2:-1]
    if how < 0.65:
        return b"h" + bytes([rng.randrange(40)])
    if how < 0.72:
        return b"q" + bytes([rng.randrange(40)])
    return bytes([rng.choice(b"(((}])NRRRRb\x81taesu\x85\x86\x87\x88Q0G\x8f\x90")])


def _call(rng: random.Random) -> bytes:
    def plain(*values: Any) -> bytes:
        return pickle.dumps(rng.choice(values), 2)[2:-1]

    def odd() -> bytes:
        return _call(rng) if rng.random() < 0.3 else plain(*NUMBERS, *TEXTS, None, (), [1], b"ab")

    how = rng.randrange(5)
    if how == 0:
        shapes = [plain((), (3,), (2, 3), (10**6, 10**6), (-1,), (2**62,)) for _ in range(2)]
        kind = rng.choice((b"Float", b"Long", b"BFloat16", b"QInt8", b"ComplexDouble"))
        count = plain(6, 6, 6, 0, 3, 2**40, -1)
        storage = b"((X\7\0\0\0storagectorch\n%sStorage\n" % kind + plain("0", "1", "9", 0)
        shape = plain(0, 0, 1, -1, 2**62) + shapes[0] + shapes[1]
        start = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + b"X\3\0\0\0cpu" + count
        return start + b"tQ" + shape + b"\x89ccollections\nOrderedDict\n)RtR"
    code = plain("f8", "f8", "i4", "O", "O", "V8", "U2", "M8", "f8,O", "S1", "(3)f8", 3)
    state = (
        b"(K\3" + plain("<", ">", "|", "=", "x") + b"NNN" + plain(-1, 8, 2**30) * 2 + plain(0, 63)
    )
    kind = b"cnumpy\ndtype\n" + code + b"\x89\x88\x87R" + rng.choice((b"", state + b"tb"))
    content = plain(b"\x41" * 8, b"\x41" * 8, b"\x41" * 24, b"", "A" * 8, [1], None)
    if how == 1:
        return b"cnumpy._core.multiarray\nscalar\n" + kind + content + b"\x86R"
    if how == 2:
        shape = plain((0,), (1,), (3,), (2**40,), (-1,), (1, 1), (), (2**62, 4), 1)
        array = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + plain((0,), (1,))
        array += plain(b"b", "b", b"O") + b"\x87R(K\1" + shape + kind + plain(False, True)
        return array + content + b"tb"
    name = rng.choice(NAMES).replace(" ", "\n").encode()
    arguments = b"(" + b"".join(odd() for _ in range(rng.randrange(4))) + b"t"
    return b"c" + name + b"\n" + arguments + rng.choice((b"R", b"R", b"\x81", b"R}b"))


def _folded(words: list[bytes], rng: random.Random) -> Iterator[bytes]:
    """Doubles what there is again and again, or nests it."""
    yield b"N" + b"q\0"
    for level in range(rng.choice((10, 60, 250))):
        yield rng.choice((b"h%c" % level, b"")) + rng.choice((b"\x85", b"\x86", b"]a", b"}s"))
        yield b"q%c" % (level + 1)
    yield from words


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for one in ("seed", "first", "count"):
        parser.add_argument(one, type=int)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    with contextlib.suppress(BrokenPipeError):
        child(given.seed, given.first, given.count, given.folder)
    os._exit(0)
