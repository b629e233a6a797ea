"""Vectors that point the same way belong together.

In: vectors of length 1, one at a time. Out: for each the number of its group. Groups are joined, the two most alike first, until
no two are as alike as asked. How alike: the mean of the cosine over all pairs (average linkage).
"""

from array import array

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 1024
"""So many vectors, an hour's, are compared to the end; then those most alike are joined early. 1 MB, 8 MB while they are."""

_NEVER_ALIKE = 2.0
"""More than any cosine: groups are joined only because there are too many."""

Vector = NDArray[np.float32]


class Clustering:
    """Groups of what was added so far; memory grows by 4 bytes a vector. The same vectors in the same order: the same groups."""

    def __init__(self, alike: float, most: int | None = None) -> None:
        """Groups less ``alike``, a cosine, stay apart, unless there are more than ``most``."""
        self._alike = alike
        self._most = most
        self._owners = array("i")  # of each vector its group; of those that have none yet, -1
        self._unsure: dict[int, Vector] = {}  # these, by number
        self._sums: list[Vector] = []  # of each group, its vectors
        self._counts: list[int] = []

    def add(self, vector: Vector, *, sure: bool = True) -> None:
        """The next one. What is not ``sure`` founds no group, but goes to the one it is most like, unless there is none."""
        if sure:
            self._add_group(vector)
        else:
            self._unsure[len(self._owners)] = vector
            self._owners.append(-1)
        if len(self._unsure) > MOST_GROUPS:
            self._assign_unsure()
        if len(self._sums) > MOST_GROUPS:
            self._join(_NEVER_ALIKE, MOST_GROUPS // 2)

    def groups(self) -> list[int]:
        """The group of each vector, numbered as they first appear. What is in one group then stays in one."""
        if not self._sums:
            self._assign_unsure()
        self._join(self._alike, self._most)
        self._assign_unsure()
        return _by_appearance(self._owners.tolist())

    def _add_group(self, vector: Vector) -> None:
        self._owners.append(len(self._sums))
        self._sums.append(vector)
        self._counts.append(1)

    def _assign_unsure(self) -> None:
        """Find a group for those that are not sure; if there are no groups, they are the groups."""
        means = unit(np.array(self._sums))
        for number, vector in self._unsure.items():
            if len(means):
                self._owners[number] = int(np.argmax(np.einsum("ij,j->i", means, vector)))
            else:
                self._owners[number] = len(self._sums)
                self._sums.append(vector)
                self._counts.append(1)
        self._unsure.clear()

    def _join(self, alike: float, most: int | None) -> None:
        """Join groups that are ``alike``, and others as long as there are more than ``most``."""
        groups = join(self._sums, self._counts, alike, most)
        sums, counts = self._sums, self._counts
        self._sums, self._counts = [np.zeros_like(one) for one in sums[: len(set(groups))]], [0] * len(set(groups))
        for group, total, count in zip(groups, sums, counts, strict=True):
            self._sums[group] += total
            self._counts[group] += count
        self._owners = array("i", (groups[owner] if owner >= 0 else owner for owner in self._owners))


def join(sums: list[Vector], counts: list[int], alike: float, most: int | None = None) -> list[int]:
    """For each group, sum and count of vectors of length 1, the number of the group in which it ends."""
    if not sums:
        return []
    means = np.array(sums) / np.array(counts, np.float32)[:, np.newaxis]
    # No BLAS: its threads would take the cores on which whisper works.
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
