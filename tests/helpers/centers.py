"""Feature maps, weights and layers for the tests of center blocks."""

import torch
import torch.nn.functional as F

ACTIVATIONS = {"relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.01)}


def maps(channels=8, height=5, width=6, n=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, height, width, generator=generator, dtype=torch.float64).to(dtype)


def shake(module):
    """Weights and statistics unlike those at the start, where some outputs are zero; in float64."""
    module.double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.2)
            elif name.endswith("running_var"):
                buffer.mul_(1.5)
    return module.eval()


def unit(x, block, activation="relu", **settings):
    """Convolution, batch norm in eval, activation of the first three parts of a block."""
    convolution, norm = block[0], block[1]
    x = F.conv2d(x, convolution.weight, convolution.bias, **settings)
    return ACTIVATIONS[activation](normed(x, norm))


def normed(x, norm):
    shape = (1, -1, 1, 1)
    x = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return x * norm.weight.view(shape) + norm.bias.view(shape)
