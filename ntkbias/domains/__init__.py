"""Domains: where inputs live, and what frequency means there."""

from ntkbias.domains.circle import Circle
from ntkbias.domains.domain import Domain, Edges, HarmonicDomain
from ntkbias.domains.images import Images
from ntkbias.domains.point_cloud import PointCloud

__all__ = ["Circle", "Domain", "Edges", "HarmonicDomain", "Images", "PointCloud"]
