"""The Lovász hinge: a convex surrogate of the Jaccard loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 65_536  # pixels


def jaccard_gradient(sorted_labels: Tensor) -> Tensor:
    """Return the gradient of the Jaccard loss's Lovász extension (rows sum to 1) for labels (N P) by falling error."""
    # float16 cannot count a tile's 10,201 pixels, and float32 cannot subtract neighbours in a whole batch
    labels = sorted_labels.to(torch.float64 if sorted_labels.shape[1] > LARGE else torch.float32)
    salt = labels.sum(dim=1, keepdim=True)
    intersection = salt - labels.cumsum(dim=1)
    union = salt + (1 - labels).cumsum(dim=1)
    jaccard = 1 - intersection / union
    return torch.diff(jaccard, dim=1, prepend=torch.zeros_like(jaccard[:, :1])).float()


class LovaszHinge(nn.Module):
    """Lovász hinge, with one sort for the whole batch.

    `phi` maps the errors 1 - logit * sign: "relu" is the paper's hinge; "elu_plus_one" (elu(e) + 1) keeps a small
    gradient on pixels that are right by a margin, as several of the challenge's best solutions did. `per_image`
    averages over images, as the challenge scores; else the batch counts as one image.

    Raises:
        ValueError: phi is neither of the two.

    Reference: Berman, Rannen Triki, Blaschko 2018, "The Lovász-Softmax loss", arXiv:1705.08790.
    """

    def __init__(self, phi: str = "elu_plus_one", per_image: bool = True):
        super().__init__()
        if phi not in ("relu", "elu_plus_one"):
            raise ValueError(f"phi={phi!r}, expected relu or elu_plus_one")
        self.phi, self.per_image = phi, per_image

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        n_rows = len(logits) if self.per_image else 1
        logits, labels = logits.float().reshape(n_rows, -1), masks.float().reshape(n_rows, -1)
        errors = 1 - logits * (2 * labels - 1)
        if known is not None:  # unknown pixels come last, cost nothing, and have no class
            unknown = known.reshape(n_rows, -1) <= 0
            errors, labels = errors.masked_fill(unknown, -torch.inf), labels.masked_fill(unknown, 0)
        errors, order = errors.sort(dim=1, descending=True)
        salt = labels.gather(1, order)
        rest = 1 - salt if known is None else (1 - salt).masked_fill(errors == -torch.inf, 0)
        gradient = self.gradient(salt, rest)
        cost = F.relu(errors) if self.phi == "relu" else F.elu(errors) + 1
        return (cost * gradient).sum(dim=1).mean()

    def gradient(self, salt: Tensor, rest: Tensor) -> Tensor:
        """Return the weight of each error (N P), largest first; `salt` and `rest` are 1 for pixels of that class."""
        return jaccard_gradient(salt)


class LovaszSymmetric(LovaszHinge):
    """Lovász hinge of salt and background, 1/2 [L(logits, masks) + L(-logits, 1 - masks)].

    In an empty image the plain hinge sees only the worst pixel; the background's half reaches all pixels. Both halves
    share one sort.

    Raises:
        ValueError: phi is unknown.

    Reference: the 9th place (tugstugi) of the TGS Salt Identification Challenge, 2018; the hinge: Berman, Rannen Triki,
    Blaschko 2018, arXiv:1705.08790, where the mean over classes belongs to another loss, the Lovász softmax.
    """

    def gradient(self, salt: Tensor, rest: Tensor) -> Tensor:
        return (jaccard_gradient(salt) + jaccard_gradient(rest)) / 2
