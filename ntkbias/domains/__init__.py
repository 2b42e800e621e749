"""Domains: where inputs live, and what frequency means there."""

from ntkbias.domains.circle import Circle
from ntkbias.domains.domain import Domain, Edges, HarmonicDomain
from ntkbias.domains.from_harmonics import FromHarmonics
from ntkbias.domains.gaussian import Gaussian
from ntkbias.domains.hypercube import Hypercube
from ntkbias.domains.images import Images
from ntkbias.domains.point_cloud import PointCloud
from ntkbias.domains.sphere import Sphere
from ntkbias.domains.sphere_product import SphereProduct
from ntkbias.domains.torus import Torus
from ntkbias.domains.weights import (
    Merged,
    density_weights,
    merge_coinciding,
    minimum_norm_weights,
    quadrature_weights,
)

__all__ = [
    "Circle",
    "Domain",
    "Edges",
    "FromHarmonics",
    "Gaussian",
    "HarmonicDomain",
    "Hypercube",
    "Images",
    "Merged",
    "PointCloud",
    "Sphere",
    "SphereProduct",
    "Torus",
    "density_weights",
    "merge_coinciding",
    "minimum_norm_weights",
    "quadrature_weights",
]


def __dir__() -> list[str]:
    return sorted(__all__)
