"""What the tests of the methods share: an encoder of six features."""

from torch import nn

D = 6


class Encoder(nn.Module):
    """Linear, and counts its calls."""

    def __init__(self, num_features=D):
        super().__init__()
        self.num_features = num_features
        self.linear = nn.Linear(3 * 4 * 4, num_features)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return self.linear(images.flatten(1))


def gradients(method):
    """Gradients of what is trained, by name."""
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.requires_grad}
