"""KTDN on the Hugging Face Hub, by huggingface_hub's mixin, which timm brings along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin
from torch import nn

if TYPE_CHECKING:
    from ktdn_plugin.archs.ktdn_arch import KTDN


class HubModule(
    nn.Module,
    ModelHubMixin,
    library_name="ktdn-plugin",
    license="apache-2.0",
    pipeline_tag="image-to-image",
    tags=["dehazing", "image-restoration", "ktdn"],
):
    """Saves a KTDN as the Hub has networks, and loads it from there.

    A repository, or a folder, has ``model.safetensors`` (a checkpoint of ours, which every command
    takes), ``config.json`` (its metadata) and ``README.md`` (the model card).
    """

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_options: Any,
    ) -> str | None:
        """Writes the network, its metadata and a model card into a folder.

        Args:
            save_directory: The folder; made if it is not there. A model card in it stays.
            config: What is known of the weights, a dictionary such as the ``metadata`` of
                :class:`~ktdn_plugin.checkpoints.Checkpoint`: run, data, metrics. The network's
                own options are added.
            repo_id: Where to push it, ``user/repo``; by default the folder's name.
            push_to_hub: Whether to push it as well.
            model_card_kwargs: Values of the card's header, such as ``license``.
            push_options: For :meth:`push_to_hub`.

        Returns:
            The address of the commit, if it was pushed.

        Raises:
            KTDNError: If it cannot be written, or if ``config`` is another network's.
        """
        from ktdn_plugin.checkpoints import hub

        folder, facts = Path(save_directory), dict(model_card_kwargs or {})
        metadata = hub.describe(self, config)
        hub.save_folder(self, folder, metadata)
        if not (folder / hub.CARD).exists():
            facts = {"repo_id": repo_id, "metadata": metadata, **facts}
            self.generate_model_card(**facts).save(folder / hub.CARD)
        if not push_to_hub:
            return None
        return self.push_to_hub(
            repo_id or folder.name,
            config=config,
            model_card_kwargs=model_card_kwargs,
            **push_options,
        )

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Pushes the network, its metadata and a model card to the Hugging Face Hub.

        Args:
            repo_id: ``user/repo``; made if it is not there.
            options: ``config`` and ``model_card_kwargs`` as for :meth:`save_pretrained`;
                ``private``, ``token``, ``commit_message``, ``branch``, ``create_pr`` and others of
                huggingface_hub.

        Returns:
            The address of the commit.

        Raises:
            KTDNError: If the Hub cannot be reached, or refuses it.
        """
        from ktdn_plugin.checkpoints import hub

        options["model_card_kwargs"] = {
            "repo_id": repo_id,
            **(options.get("model_card_kwargs") or {}),
        }
        with hub.hub_errors(repo_id):
            return super().push_to_hub(repo_id, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> KTDN:
        """Builds a network from the Hugging Face Hub, or from a folder.

        Args:
            pretrained_model_name_or_path: ``user/repo``, or a folder that
                :meth:`save_pretrained` has written.
            options: ``revision``, ``token``, ``cache_dir``, ``force_download`` and
                ``local_files_only`` of :func:`huggingface_hub.hf_hub_download`.

        Returns:
            The network on the CPU, float32, in eval mode.

        Raises:
            KTDNError: If there is no such repository, it holds no KTDN, or the Hub cannot be
                reached.
        """
        from ktdn_plugin.checkpoints import hub

        return hub.load_from(str(pretrained_model_name_or_path), **options)

    def generate_model_card(self, **facts: Any) -> ModelCard:
        """Returns the model card.

        Args:
            facts: ``repo_id``, ``metadata``; the rest goes into the header: ``license``,
                ``language``, ``datasets``.
        """
        from ktdn_plugin.checkpoints import hub

        facts.setdefault("metadata", hub.describe(self, None))
        return hub.make_card(self._hub_mixin_info.model_card_data, **facts)
