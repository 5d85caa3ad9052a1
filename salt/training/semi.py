"""What a training step does with tiles that have no mask. Chosen by the group `semi-supervised`."""

import math

import torch
from torch import Tensor, nn

from salt.data.mix import CutMix, Mixed


class Supervised:
    """Tiles with a mask alone.

    `share` of a batch's tiles have no mask of their own. A subclass sets `uses_labels` if they come with
    pseudo-labels, whose confidence is `least` or more, and `uses_teacher` if a moving average of the weights says
    what is in them.

    Raises:
        ValueError: share does not fit the class.
    """

    uses_labels = uses_teacher = False
    least = 0.0

    def __init__(self, share: float):
        if (share > 0) != (self.uses_labels or self.uses_teacher):
            raise ValueError(f"share={share}, expected {'more than 0' if share == 0 else '0'}")
        self.share = share

    def taught(self, teacher: nn.Module, images: Tensor, depths: Tensor) -> Mixed:
        """Tiles without a mask (N 1 H W) as the network sees them, with the probabilities that it is to learn."""
        raise NotImplementedError

    def consistency(self, logits: Tensor, probabilities: Tensor, progress: float) -> Tensor:
        """The loss of logits (N 1 H W) against a teacher's probabilities; `progress` is the part of the epochs done."""
        raise NotImplementedError


class PseudoLabels(Supervised):
    """Tiles without a mask are trained like others, with the masks that an earlier run predicted.

    Raises:
        ValueError: share is 0, or least is not within 0 ... 1.

    Reference: Lee 2013, "Pseudo-Label", ICML Workshop on Challenges in Representation Learning.
    """

    uses_labels = True

    def __init__(self, share: float, least: float):
        super().__init__(share)
        if not 0 <= least <= 1:
            raise ValueError(f"least={least}, expected a confidence within 0 ... 1")
        self.least = least


class MeanTeacher(Supervised):
    """On mixed tiles without a mask the network is to say what its moving average says about each of them alone.

    The teacher sees the tiles as they are, the network sees them with rectangles exchanged (CutMix), and the
    teacher's probabilities are exchanged in the same way. The squared difference of the probabilities, its mean over
    pixels, counts with `weight`, which rises over the first part `warmup` of the epochs.

    Raises:
        ValueError: share is 0, weight is not positive, or warmup is not within 0 ... 1.

    Reference: Tarvainen, Valpola 2017, arXiv:1703.01780; French, Laine, Aila, Mackiewicz, Finlayson 2020,
    arXiv:1906.01916, for CutMix; Laine, Aila 2017, arXiv:1610.02242, for how the weight rises.
    """

    uses_teacher = True

    def __init__(self, share: float, weight: float, warmup: float):
        super().__init__(share)
        if not weight > 0 or not 0 <= warmup <= 1:
            raise ValueError(f"weight={weight}, warmup={warmup}, expected weight > 0 and 0 <= warmup <= 1")
        self.weight, self.warmup, self.mix = weight, warmup, CutMix(alpha=1.0)

    @torch.no_grad()
    def taught(self, teacher: nn.Module, images: Tensor, depths: Tensor) -> Mixed:
        """Mixed tiles, with the teacher's probabilities mixed in the same way."""
        logits = teacher.eval()(images, depths).logits
        return self.mix(images, logits.float().sigmoid(), depths)

    def consistency(self, logits: Tensor, probabilities: Tensor, progress: float) -> Tensor:
        """The weighted mean squared difference of the probabilities."""
        left = max(0.0, 1 - progress / self.warmup) if self.warmup else 0.0
        difference = logits.float().sigmoid() - probabilities
        return self.weight * math.exp(-5 * left**2) * difference.square().mean()
