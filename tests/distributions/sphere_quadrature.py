"""Integrals over the sphere for tests: a grid in three dimensions, weighted draws above."""

import math

import numpy as np
import torch
from torch.nn.functional import normalize

DOUBLE = torch.float64


def log_area(dim):
    """Log surface area of the unit sphere in ``dim`` dimensions."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def reflected(points, pole):
    """Points reflected so that (0, 0, 1) comes to ``pole``, and back: its own inverse."""
    axis = normalize(torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE) - pole, dim=0)
    return points - 2 * (points @ axis)[:, None] * axis


def sphere_grid(pole, caps=(-1.0, 1.0), num_cosine=200, num_azimuth=200):
    """Nodes and weights on S² with the pole given, so that it is fine where a density peaks.

    Gauss–Legendre in the cosine, between every two of ``caps``; midpoints in the azimuth.
    """
    node, weight = np.polynomial.legendre.leggauss(num_cosine)
    low, high = np.array(caps[:-1])[:, None], np.array(caps[1:])[:, None]
    cosine = ((low + high + node * (high - low)) / 2).ravel()
    weight = (weight * (high - low) / 2).ravel()
    azimuth = 2 * np.pi * (np.arange(num_azimuth) + 0.5) / num_azimuth - np.pi
    c, a = np.meshgrid(cosine, azimuth, indexing="ij")
    s = np.sqrt(1 - c**2)
    points = torch.from_numpy(np.stack([s * np.cos(a), s * np.sin(a), c], -1).reshape(-1, 3))
    weights = torch.from_numpy(np.repeat(weight, num_azimuth) * 2 * np.pi / num_azimuth)
    return reflected(points, pole), weights


def cell_on_sphere(points, pole, caps, sectors):
    """Number of the cap and sector about ``pole`` in which each point lies."""
    x, y, z = reflected(points, pole).unbind(-1)
    cap = torch.bucketize(z.contiguous(), torch.tensor(caps[1:-1], dtype=DOUBLE))
    sector = ((torch.atan2(y, x) / (2 * math.pi) + 0.5) * sectors).long().clamp(max=sectors - 1)
    return cap * sectors + sector


def weighted_draws(pole, count):
    """Directions and their importance weights, the reciprocal of their density.

    With x = (1 − cos)/2, uniform directions have x ~ Beta((D−1)/2, (D−1)/2). Here it is a mixture
    with second parameters 8, for the peak, and 1, as a reference is singular at the antipode.
    """
    dim = len(pole)
    half = torch.tensor((dim - 1) / 2, dtype=DOUBLE)
    parts = torch.distributions.Beta(half, torch.tensor([8.0, 1.0], dtype=DOUBLE))
    x = parts.sample((count // 2,)).flatten()
    tangent = torch.randn(len(x), dim, dtype=DOUBLE)
    tangent = normalize(tangent - (tangent @ pole)[:, None] * pole, dim=-1)
    points = (1 - 2 * x)[:, None] * pole + 2 * (x * (1 - x)).sqrt()[:, None] * tangent
    uniform = torch.distributions.Beta(half, half)
    log_proposal = parts.log_prob(x[:, None]).logsumexp(-1) - math.log(2)
    log_weights = log_area(dim) + uniform.log_prob(x) - log_proposal
    return normalize(points, dim=-1), log_weights.exp()
