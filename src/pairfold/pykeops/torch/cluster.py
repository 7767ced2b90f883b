"""`pykeops.torch.cluster`."""

from __future__ import annotations

from typing import Any

from ... import cluster
from ...cluster import (
    cluster_centroids,
    cluster_ranges,
    cluster_ranges_centroids,
    from_matrix,
    sort_clusters,
    swap_axes,
)

__all__ = [
    "cluster_centroids",
    "cluster_ranges",
    "cluster_ranges_centroids",
    "from_matrix",
    "grid_cluster",
    "sort_clusters",
    "swap_axes",
]


def grid_cluster(x: Any, size: Any) -> Any:
    """As `pairfold.cluster.grid_cluster`; labels are int32."""
    return cluster.grid_cluster(x, size).int()
