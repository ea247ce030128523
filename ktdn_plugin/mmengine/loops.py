"""A training loop that resumes exactly."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ktdn_plugin.data.order import seed_iteration
from ktdn_plugin.data.skipping import AT_MOST, SkipCount
from ktdn_plugin.data.workers import worker_failures_as_errors
from ktdn_plugin.errors import KTDNError, NotFiniteError, PreemptedError
from ktdn_plugin.mmengine.registry import LOOPS
from ktdn_plugin.mmengine.restorer import NOT_FINITE_ADVICE
from ktdn_plugin.mmengine.samplers import SeededSampler
from ktdn_plugin.training import distributed
from ktdn_plugin.training.precision import match_state
from ktdn_plugin.training.preemption import defer_signals, shield_workers
from ktdn_plugin.training.resuming import compare_progress

PROGRESS = "ktdn_progress"
"""Key of the samples taken in the run's message hub, which is saved in checkpoints."""


@LOOPS.register_module()
class SeededTrainLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations, with randomness determined by the seed and the iteration.

    To resume, mmengine's own loop reads and discards all data already seen, and continues with
    different random numbers. This one resumes immediately, exactly where it stopped.

    Args:
        runner: The runner.
        dataloader: Training data with a ``SeededSampler``, or the config to build it from.
        max_iters: Total iterations.
        val_begin: The first iteration that may be validated.
        val_interval: Iterations between validations; the last one is always validated.
        dynamic_intervals: ``(iteration, interval)`` pairs that change the interval from there on.
        skip_at_most: Share of the training images that may be unreadable, if the dataset has
            ``on_error='skip'``.

    Raises:
        KTDNError: If a number is out of range, the sampler is not a ``SeededSampler``, or an image
            cannot be read.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader | dict[str, Any],
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
        skip_at_most: float = AT_MOST,
    ) -> None:
        for name, value in (("max_iters", max_iters), ("val_interval", val_interval)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise KTDNError(f"{name}: {value!r} must be a whole number, 1 or more")
        if isinstance(skip_at_most, bool) or not 0 <= skip_at_most <= 1:
            raise KTDNError(f"skip_at_most: {skip_at_most!r} must be a share, 0 to 1")
        loader: Any = dataloader
        if isinstance(loader, dict):
            loader = runner.build_dataloader(loader, seed=runner.seed)
        # The parent would start the workers right away, on data that a resumed training has passed.
        super().__init__(
            runner, Idle(loader), max_iters, val_begin, val_interval, dynamic_intervals
        )
        self.dataloader: Any = loader
        shield_workers(loader)
        sampler: Any = loader.sampler
        if not isinstance(sampler, SeededSampler):
            raise KTDNError(
                "train_dataloader.sampler: SeededTrainLoop needs dict(type='SeededSampler'), found "
                f"{type(sampler).__name__}; take IterBasedTrainLoop for others"
            )
        # Other processes than the first only log errors.
        level = logging.WARNING if get_rank() == 0 else logging.DEBUG
        self.skipped = SkipCount(
            sampler.length,
            skip_at_most,
            lambda line: print_log(line, logger="current", level=level),
        )

    def run(self) -> Any:
        """Trains the remaining iterations.

        Returns:
            The model.
        """
        sampler = self.dataloader.sampler
        sampler.start, self._first = self._go_on_after(), self._iter
        if self.runner.val_loop is not None:
            shield_workers(self.runner.val_loop.dataloader)
        with (
            worker_failures_as_errors("train_dataloader", "num_workers"),
            defer_signals() as self.signalled,
        ):
            self.runner.call_hook("before_train")
            self.runner.call_hook("before_train_epoch")
            if isinstance(self.runner.optim_wrapper, OptimWrapper):
                optimizer = self.runner.optim_wrapper.optimizer
                # The model's channels_last may have changed since the state was saved.
                match_state(optimizer)
                optimizer.register_step_pre_hook(self._refuse_what_is_not_finite)
            # The run was interrupted before or during this validation.
            if self._iter and self._is_due() and self._validated() != self._iter:
                self._validate()
            # Only now, as a hook might have stopped the run before.
            self.dataloader_iterator = iter(self.dataloader)
            while self._iter < self._max_iters and not self.stop_training:
                self._iterate()
            self._stop_if_signalled()  # in case a signal came in the last validation
            self.runner.call_hook("after_train_epoch")
            self.runner.call_hook("after_train")
        if self.skipped:
            print_log(
                f"{len(self.skipped)} training images were skipped, see above.",
                logger="current",
                level=logging.WARNING,
            )
        return self.runner.model

    def _go_on_after(self) -> int:
        """Returns the number of samples taken before, and logs what has changed since."""
        sampler, hub = self.dataloader.sampler, self.runner.message_hub
        batch = self.dataloader.batch_size * sampler.world_size
        self._terms = {
            "processes": sampler.world_size,
            "batch": batch,
            "seed": sampler.seed,
            "images": sampler.length,
        }
        earlier = hub.get_info(PROGRESS, None)
        if not self._iter or not earlier:  # not recorded by older versions
            return int(self._iter * batch)
        return compare_progress(earlier, self._terms, self.runner.logger.warning, "randomness.seed")

    def _iterate(self) -> None:
        runner = self.runner
        runner.model.train()
        batch: Any = next(self.dataloader_iterator)
        self.skipped.note(batch)
        seed_iteration(self.dataloader.sampler.seed, self._iter + 1, get_rank())
        # Before the after-iteration hooks, one of which may save.
        sampler = self.dataloader.sampler
        taken = sampler.start + (self._iter + 1 - self._first) * self._terms["batch"]
        self.runner.message_hub.update_info(PROGRESS, {**self._terms, "samples": taken})
        self.run_iter(batch)
        self._stop_if_signalled()
        self._decide_current_val_interval()
        if self._is_due():
            self._validate()

    def _stop_if_signalled(self) -> None:
        number = self.signalled()
        if not number:
            return
        meta = {"epoch": self.runner.epoch, "iter": self._iter}
        for hook in self.runner.hooks:
            if isinstance(hook, CheckpointHook):
                # This hook tracks the checkpoints to keep.
                hook._save_checkpoint_with_step(self.runner, self._iter, meta)
                break
        else:
            name = f"iter_{self._iter}.pth"
            self.runner.save_checkpoint(self.runner.work_dir, name, meta=meta, by_epoch=False)
        raise PreemptedError(number, self._iter, "--resume")

    def _is_due(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters

    def _validated(self) -> Any:
        return self.runner.message_hub.get_info("validated", None)

    def _validate(self) -> None:
        # Recorded in checkpoints saved after measuring, but not in earlier ones.
        self.runner.message_hub.update_info("validated", self._iter)
        # The images are split among processes, which must all measure with the same statistics.
        distributed.share_buffers(self.runner.model)
        self.runner.val_loop.run()

    def _refuse_what_is_not_finite(self, optimizer: Optimizer, *_: Any) -> None:
        """Stops before a step, while the weights are still those of the previous iteration.

        Raises:
            NotFiniteError: If the gradient became NaN or infinite.
        """
        # With a gradient scaler, a fused optimiser skips such a step by itself.
        if getattr(optimizer, "found_inf", None) is not None:
            return
        gradients = [
            one.grad
            for group in optimizer.param_groups
            for one in group["params"]
            if one.grad is not None
        ]
        if gradients and not torch.nn.utils.get_total_norm(gradients).isfinite():
            model: Any = self.runner.model
            names = getattr(getattr(model, "module", model), "batch_names", [])
            raise NotFiniteError(
                f"the gradient became NaN or infinite on the batch of {', '.join(names)}; "
                f"{NOT_FINITE_ADVICE}"
            )


class Idle:
    """A data loader that does not yield anything yet."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return len(self._loader)
