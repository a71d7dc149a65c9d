"""Progressive resizing: training begins on small images, which take less time, and ends at the full size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.config import TrainConfig
from pmtrain.data.loading.loader import Change
from pmtrain.system.errors import UsageError

STEP = 32  # pixels between two sizes: the engine makes a plan for each


@dataclass(frozen=True)
class ProgressiveSize:
    """The size of the training images by epoch, from its number alone, so that a resumed run has the same.

    It grows in multiples of STEP, at even intervals, over the first third of the epochs (rounded down). Growing for
    longer leaves too little of a falling learning rate to the full size (docs/recipes.md).

    Args:
        start, full: pixels, at the first epoch and at the last ones.
        epochs: of the whole run.
    Source: progressive resizing, as in fastai and in Tan and Le 2021 (EfficientNetV2), section 4, without the latter's
        growing regularisation.
    """

    start: int
    full: int
    epochs: int

    @classmethod
    def of(cls, config: TrainConfig) -> ProgressiveSize | None:
        """As --start-size has it; None without it.

        Raises:
            UsageError: there is nothing to grow, no epoch to grow in, or the run may end or average weights meanwhile.
        """
        start = config.start_size
        if start is None:
            return None
        if start >= config.image_size:
            raise UsageError(
                f"--start-size {start} with --image-size {config.image_size}: the images would not grow",
                "give a smaller --start-size, or leave it out",
            )
        if config.epochs < 3:
            raise UsageError(
                f"--start-size {start} with --epochs {config.epochs}: growing takes a third of 3 epochs at least",
                "give more --epochs, or leave --start-size out",
            )
        if config.patience is not None:
            raise UsageError(
                f"--start-size {start} with --patience {config.patience}: the run could end before its images are full"
                " size",
                "leave one of them out",
            )
        growing = cls(start, config.image_size, config.epochs)
        if config.swa_epochs > config.epochs - growing.epochs_growing:
            raise UsageError(
                f"--swa-epochs {config.swa_epochs} with --start-size {start}: the images still grow in the first of"
                " these epochs, and batch norms that saw small images don't fit large ones",
                f"give at most --swa-epochs {config.epochs - growing.epochs_growing}",
            )
        return growing

    @property
    def epochs_growing(self) -> int:
        """How many epochs come before those at the full size."""
        return self.epochs // 3

    def size(self, epoch: int) -> int:
        """The width and height of an epoch's images, in pixels."""
        if epoch >= self.epochs_growing:
            return self.full
        sizes = range(self.start, self.full, STEP)
        return sizes[epoch * len(sizes) // self.epochs_growing]

    def changes(self, then: Change) -> Change:
        """An augmentation that first brings each image to its epoch's size, by area; `then`: what follows."""

        def change(image: np.ndarray, epoch: int, index: int, repeat: int = 0) -> np.ndarray:
            size = self.size(epoch)
            if size != image.shape[0]:
                image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            return then(image, epoch, index, repeat)

        return change
