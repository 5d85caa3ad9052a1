"""Losses of single pixels, which they choose or weight."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.losses.known import mean_of_known


class BCE(nn.Module):
    """Binary cross entropy, the mean over all pixels of the batch."""

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        if known is None:
            return F.binary_cross_entropy_with_logits(logits.float(), masks.float())
        losses = F.binary_cross_entropy_with_logits(logits.float(), masks.float(), reduction="none")
        return mean_of_known(losses, known)


class BootstrappedCE(nn.Module):
    """Binary cross entropy of each image's hardest pixels: the mean of the `fraction` with the largest loss.

    Raises:
        ValueError: fraction is not above 0 and at most 1.

    Reference: Pohlen, Hermans, Mathias, Leibe 2017, "Full-Resolution Residual Networks", arXiv:1611.08323.
    """

    def __init__(self, fraction: float = 0.25):
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction={fraction}, expected a share of the pixels above 0 and at most 1")
        self.fraction = fraction

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        losses = F.softplus(-margins(logits, masks)).flatten(1)
        if known is None:
            n_hardest = max(1, round(self.fraction * losses.shape[1]))
            return losses.topk(n_hardest, dim=1, sorted=False).values.mean()  # all images have as many
        seen = known.flatten(1) > 0
        losses = torch.where(seen, losses, 0).sort(dim=1, descending=True).values
        n_of_image = share_of(seen.sum(dim=1, keepdim=True), self.fraction)
        ranks = torch.arange(losses.shape[1], device=losses.device)
        return (torch.where(ranks < n_of_image, losses, 0) / n_of_image).sum(dim=1).mean()


class OHEM(nn.Module):
    """Binary cross entropy of the batch's hard pixels: online hard example mining in the form of OCNet.

    A pixel is hard if the probability of its true class is at most `threshold`. At least the fraction `min_kept` of the
    batch's pixels is kept, the hardest ones, with all that are as hard as the last of them.

    Raises:
        ValueError: threshold or min_kept is not between 0 and 1.

    Reference: Yuan, Wang 2018, "OCNet", arXiv:1809.00916; the idea: Shrivastava, Gupta, Girshick 2016, "Training
    Region-based Object Detectors with Online Hard Example Mining", arXiv:1604.03540.
    """

    def __init__(self, threshold: float = 0.7, min_kept: float = 0.0625):
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold}, expected a probability from 0 to 1")
        if not 0 <= min_kept <= 1:
            raise ValueError(f"min_kept={min_kept}, expected a share of the pixels from 0 to 1")
        self.threshold, self.min_kept = threshold, min_kept

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        margin = margins(logits, masks).flatten()
        # ranked by margin: probabilities near 1 are equal in float32 long before their margins are
        if known is None:
            n_kept = max(1, round(self.min_kept * margin.numel()))
            least_hard = margin.detach().topk(n_kept, largest=False, sorted=False).values.max()
            kept = (margin.sigmoid() <= self.threshold) | (margin <= least_hard)
            return torch.where(kept, F.softplus(-margin), 0).sum() / kept.sum()
        seen = known.flatten() > 0
        ranked = torch.where(seen, margin.detach(), torch.inf).sort().values
        least_hard = ranked.gather(0, share_of(seen.sum(), self.min_kept)[None] - 1)
        kept = seen & ((margin.sigmoid() <= self.threshold) | (margin <= least_hard))
        return torch.where(kept, F.softplus(-margin), 0).sum() / kept.sum().clamp(min=1)


class Focal(nn.Module):
    """Focal loss: binary cross entropy times (1 - probability of the true class)^gamma, the mean over all pixels.

    `alpha` is the weight of salt and 1 - alpha that of the background; None weights neither. The paper divides by the
    number of objects, which pixels do not have.

    Raises:
        ValueError: gamma is negative, or alpha is not between 0 and 1.

    Reference: Lin, Goyal, Girshick, He, Dollár 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = 0.25):
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"gamma={gamma}, expected >= 0")
        if alpha is not None and not 0 < alpha < 1:
            raise ValueError(f"alpha={alpha}, expected null or a weight between 0 and 1")
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        margin = margins(logits, masks)
        # (1 - p)^gamma as exp(gamma log(1 - p)): the power's gradient is infinite at p = 1 for gamma < 1
        losses = -(self.gamma * F.logsigmoid(-margin)).exp() * F.logsigmoid(margin)
        if self.alpha is not None:
            losses = losses * torch.where(masks > 0, self.alpha, 1 - self.alpha)
        return mean_of_known(losses, known)


def share_of(n: Tensor, share: float) -> Tensor:
    """Return a share of pixel counts, rounded as Python does, at least one pixel."""
    return (share * n.double()).round().clamp(min=1).long()


def margins(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the logit of each pixel's true class in float32: the logit if there is salt, else its negative."""
    logits = logits.float()
    return torch.where(masks > 0, logits, -logits)
