"""When a run ends, and which of its epochs is kept.

Notable: the two kinds of training want opposite things. A trained memory overfits within a few epochs, so it stops
early on the ranking metric of the validation window and keeps its best epoch. A variational profile follows one cycle
of rates and is at its best where the cycle ends; to stop inside the cycle, or to pick an epoch by a noisy metric, would
only cost. Whoever names a patience gets early stopping and the best epoch everywhere.
"""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping

MEMORY_PATIENCE = 5


class StopEarly(EarlyStopping):
    """Lightning's early stopping with a patience that the log suggests.

    Args:
        monitor: metric that is watched.
        mode: `max` or `min`, which is better.
        patience: epochs without a better value after which training stops; null: 5 where a memory is trained, never
            elsewhere.
        min_delta: smallest change that counts as better.
    """

    def __init__(
        self, monitor: str = "val_rank", mode: str = "max", patience: int | None = None, min_delta: float = 0.0
    ) -> None:
        super().__init__(monitor=monitor, mode=mode, patience=patience or MEMORY_PATIENCE, min_delta=min_delta)
        self.asked = patience is not None

    def keeps_best(self, with_memory: bool) -> bool:
        """Whether the best epoch is kept rather than the last."""
        return self.asked or with_memory

    def on_load_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A run that had stopped early when it was interrupted stays stopped."""
        trainer.should_stop = bool(checkpoint["callbacks"][self.state_key]["stopped_epoch"])

    def _should_skip_check(self, trainer: lightning.Trainer) -> bool:
        memory: bool = trainer.datamodule.with_memory  # type: ignore[attr-defined]
        return not self.keeps_best(memory) or super()._should_skip_check(trainer)
