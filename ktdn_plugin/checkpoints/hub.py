"""Networks as the Hugging Face Hub has them: weights, configuration and model card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, errors, hf_hub_download
from torch import nn

from ktdn_plugin.archs import KTDN
from ktdn_plugin.checkpoints.checkpoint import Checkpoint
from ktdn_plugin.checkpoints.info import training_rows
from ktdn_plugin.checkpoints.layouts import write_layout
from ktdn_plugin.checkpoints.metadata import (
    Metadata,
    describe_network,
    metadata_from_json,
    network_of,
    to_json,
)
from ktdn_plugin.checkpoints.networks import build_network
from ktdn_plugin.errors import KTDNError, printable
from ktdn_plugin.storage.atomic import write_whole

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"

TEMPLATE = """\
---
{{ card_data }}
---

# {{ name }}

A KTDN, Knowledge Transfer Dehazing Network (Wu et al., CVPRW 2020), for the Python package
ktdn-plugin. A student removes haze from photographs.

```python
from ktdn_plugin import KTDN, Dehazer

dehaze = Dehazer(KTDN.from_pretrained("{{ repo_id }}"))
dehazed = dehaze("photo.jpg")  # an RGB array (h, w, 3)
```

`model.safetensors` is also a checkpoint for the command line: `ktdn dehaze photo.jpg --checkpoint
model.safetensors`; `ktdn info model.safetensors` prints what follows.

| | |
|---|---|
{% for key, value in facts %}| {{ key }} | {{ value }} |
{% endfor %}"""


def describe(network: nn.Module, config: Any) -> Metadata:
    """Returns the metadata of a network that is to be published.

    Args:
        network: The network.
        config: What is known of its weights: metadata, or None.

    Raises:
        KTDNError: If that is another network's.
    """
    own = describe_network(network)
    if config is not None and not isinstance(config, Mapping):
        raise KTDNError(f"config: is a dictionary, not a {type(config).__name__}")
    metadata = dict(config or {})
    for key, value in network_of(metadata, "config").items():
        if own.get(key) != value:
            raise KTDNError(
                f"config: describes another network, with {key} {value}; this one has "
                f"{own.get(key)}"
            )
    return {**metadata, "network": own}


def save_folder(network: nn.Module, folder: Path, metadata: Metadata) -> None:
    """Writes a network's weights and configuration into a folder, each whole or not at all.

    Raises:
        KTDNError: If they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KTDNError(f"{folder}: cannot be created ({error.strerror or error})") from error
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write_layout(folder / WEIGHTS, "safetensors", {"params": weights}, metadata)
    text = json.dumps(json.loads(to_json(metadata)), indent=2) + "\n"
    write_whole(folder / CONFIG, lambda file: file.write(text.encode()))


def load_from(name: str, **options: Any) -> KTDN:
    """Builds a network from a folder, or from a repository of the Hub.

    Args:
        name: The folder, or ``user/repo``.
        options: For :func:`huggingface_hub.hf_hub_download`.

    Raises:
        KTDNError: If it is neither, or holds no KTDN.
    """
    config, weights = (_fetch(name, file, options) for file in (CONFIG, WEIGHTS))
    label = f"{name}/{CONFIG}"
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KTDNError(f"{label}: cannot be read ({error})") from error
    metadata = metadata_from_json(text, label)
    if "network" not in metadata:
        raise KTDNError(
            f"{label}: has no 'network', which KTDN's have: the network is another one, or was "
            "not saved by KTDN.push_to_hub or save_pretrained"
        )
    try:
        read = Checkpoint.read(weights).select_ktdn()
    except KTDNError as error:
        # Of the Hub's files, the cache's own names would say nothing.
        raise KTDNError(str(error).replace(str(weights), f"{name}/{WEIGHTS}")) from error
    return build_network(read, network_of(metadata, label), f"{name}/{WEIGHTS}")


def _fetch(name: str, file: str, options: Mapping[str, Any]) -> Path:
    if Path(name).is_dir():
        path = Path(name, file)
        if not path.is_file():
            raise KTDNError(f"{name}: no KTDN is in this folder: it has no {file}")
        return path
    with hub_errors(name, file):
        return Path(hf_hub_download(name, file, **options))


@contextmanager
def hub_errors(name: str, file: str = "") -> Iterator[None]:
    """Turns what huggingface_hub raises into one line.

    Args:
        name: The repository.
        file: What is fetched from it.
    """
    try:
        yield
    except (KTDNError, TypeError):
        raise
    except errors.HFValidationError as error:
        raise KTDNError(f"{name}: neither a folder nor a repository's name, user/repo") from error
    except errors.GatedRepoError as error:
        raise KTDNError(
            f"{name}: access has to be asked for on its page; then log in: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise KTDNError(
            f"{name}: no such repository on the Hugging Face Hub, or a private one: check the "
            "name, or log in: hf auth login"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise KTDNError(
            f"{name}: not downloaded before, and the Hugging Face Hub cannot be reached; check "
            "the network, or give a folder"
        ) from error
    except errors.EntryNotFoundError as error:
        raise KTDNError(f"{name}: no KTDN is in this repository: it has no {file}") from error
    # Of httpx or of the Hub: each version has exceptions of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise KTDNError(f"{name}: the Hugging Face Hub: {printable(reason)}") from error


def make_card(
    data: ModelCardData, *, metadata: Metadata, repo_id: str | None = None, **header: Any
) -> ModelCard:
    """Returns a model card.

    Args:
        data: The header.
        metadata: What the card tells of the network and its training.
        repo_id: ``user/repo``, for the lines that load it.
        header: What replaces or extends the header.
    """
    card: ModelCard = ModelCard.from_template(
        card_data=ModelCardData(**{**data.to_dict(), **header}),
        template_str=TEMPLATE,
        repo_id=repo_id or "user/repo",
        name=(repo_id or "KTDN").split("/")[-1],
        facts=[(key, _cell(value)) for key, value in _facts(metadata)],
    )
    return card


def _facts(metadata: Metadata) -> Iterator[tuple[str, str]]:
    for key in ("encoder", "head", "widths"):
        yield key, str(metadata["network"].get(key) or "the encoder's own")
    yield from training_rows(metadata)


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")
