"""What the decision study tries does what its predictions say of it."""

import torch

from studies import levers
from studies.evaluations import FEATURES
from vje_pyro.guides import DiagonalNormal
from vje_pyro.method import Method


class Embeds(Method):
    loss = None  # nothing is trained


def test_a_projector_stands_between_the_features_and_the_embedding():
    method = Embeds(levers.Projected(in_channels=1, widths=(4, 8), stem_width=4)).eval()
    images = torch.randn(3, 1, 8, 8)
    features = FEATURES["backbone"](method, images)
    assert features.shape == (3, 8)
    assert torch.equal(method.encoder.projector(features), method.embed(images))


def test_a_learned_prior_moves_with_its_scale():
    prior = levers.LearnedPrior(3, 0.5)
    prior(None).log_prob(torch.full((3,), 2.0)).backward()
    assert prior(None).stddev.tolist() == [0.5] * 3
    assert (prior.log_scale.grad > 0).all()  # farther out than the prior thinks


def test_a_target_is_the_mean_direction_of_the_other_views_at_their_mean_radius():
    targets = torch.randn(3, 2, 5)
    guide = DiagonalNormal(5)
    evidence = levers.MeanTarget().evidence(guide.infer, targets, targets, None)
    target = evidence.target.view(3, 2, 5)
    mean = (targets[1] + targets[2]) / 2
    torch.testing.assert_close(
        target[0].norm(dim=-1), (targets[1].norm(dim=-1) + targets[2].norm(dim=-1)) / 2
    )
    cosine = torch.cosine_similarity(target[0], mean, dim=-1)
    torch.testing.assert_close(cosine, torch.ones(2))
