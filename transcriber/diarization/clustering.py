"""Agglomerative clustering of voice embeddings.

In: vectors of length 1, one at a time. Out: the number of each one's group. Groups are merged, the two most similar first, until
no two are as similar as asked: by the mean cosine over all pairs (average linkage).
"""

from array import array

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 1024
"""Groups kept, an hour's vectors; beyond that the most similar are merged early. 1 MB, 8 MB during a merge."""

_NEVER_ALIKE = 2.0
"""More than any cosine: groups are merged only because there are too many."""

Vector = NDArray[np.float32]


class Clustering:
    """Groups of the vectors added so far; memory grows by 4 bytes a vector. Deterministic in the vectors and their order."""

    def __init__(self, alike: float, most: int | None = None) -> None:
        """Groups less similar than ``alike``, a cosine, stay apart, unless there are more than ``most``."""
        self._alike = alike
        self._most = most
        self._owners = array("i")  # the group of each vector; -1 of those without one yet
        self._unsure: dict[int, Vector] = {}  # the latter, by number
        self._sums: list[Vector] = []  # of the vectors of each group
        self._counts: list[int] = []

    def add(self, vector: Vector, *, sure: bool = True) -> None:
        """Add the next vector. One that is not ``sure`` makes no group, but joins the most similar one, if there is any."""
        if sure:
            self._add_group(vector)
        else:
            self._unsure[len(self._owners)] = vector
            self._owners.append(-1)
        if len(self._unsure) > MOST_GROUPS:
            self._assign_unsure()
        if len(self._sums) > MOST_GROUPS:
            self._merge(_NEVER_ALIKE, MOST_GROUPS // 2)

    def groups(self) -> list[int]:
        """The group of each vector, numbered as they first appear. Vectors in one group stay together afterwards."""
        if not self._sums:
            self._assign_unsure()
        self._merge(self._alike, self._most)
        self._assign_unsure()
        return _by_appearance(self._owners.tolist())

    def _add_group(self, vector: Vector) -> None:
        self._owners.append(len(self._sums))
        self._sums.append(vector)
        self._counts.append(1)

    def _assign_unsure(self) -> None:
        """Give the unsure vectors the most similar group; without groups, they make them."""
        means = unit(np.array(self._sums))
        for number, vector in self._unsure.items():
            if len(means):
                self._owners[number] = int(np.argmax(np.einsum("ij,j->i", means, vector)))
            else:
                self._owners[number] = len(self._sums)
                self._sums.append(vector)
                self._counts.append(1)
        self._unsure.clear()

    def _merge(self, alike: float, most: int | None) -> None:
        """Merge groups that are ``alike``, and others as long as there are more than ``most``."""
        groups = merge(self._sums, self._counts, alike, most)
        sums, counts = self._sums, self._counts
        self._sums, self._counts = [np.zeros_like(one) for one in sums[: len(set(groups))]], [0] * len(set(groups))
        for group, total, count in zip(groups, sums, counts, strict=True):
            self._sums[group] += total
            self._counts[group] += count
        self._owners = array("i", (groups[owner] if owner >= 0 else owner for owner in self._owners))


def merge(sums: list[Vector], counts: list[int], alike: float, most: int | None = None) -> list[int]:
    """The number of the merged group of each group, given the sum and the count of its vectors of length 1."""
    if not sums:
        return []
    means = np.array(sums) / np.array(counts, np.float32)[:, np.newaxis]
    # No BLAS: its threads would take whisper's cores.
    cosines = np.einsum("ij,kj->ik", means, means)
    np.fill_diagonal(cosines, -np.inf)
    sizes = list(map(float, counts))
    groups = np.arange(len(sums))
    for left in range(len(sums), 1, -1):
        one, other = sorted(divmod(int(np.argmax(cosines)), len(sums)))
        if cosines[one, other] < alike and (most is None or left <= most):
            break
        share = np.float32(sizes[one] / (sizes[one] + sizes[other]))
        joined = share * cosines[one] + (1 - share) * cosines[other]
        joined[one] = -np.inf
        cosines[one] = cosines[:, one] = joined
        cosines[other] = cosines[:, other] = -np.inf
        sizes[one] += sizes[other]
        groups[groups == other] = one
    return _by_appearance(groups.tolist())


def _by_appearance(groups: list[int]) -> list[int]:
    """The same groups, numbered as they first appear."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def unit(vectors: Vector) -> Vector:
    """Rows of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vector = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled
