"""Entries of a symbolic matrix: parts of it, its values at given pairs, and all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import backend_of, on_host
from ..codegen.storage import BYTES
from ..formula.graph import Node, apply, rewrite, var
from ..formula.operators import extract
from ..reductions import Sum
from ..runtime import memory
from .axes import COLUMNS, ROWS, diagonal_within
from .folds import Folds
from .keys import Key, indices, is_points, read
from .parameters import whole_number
from .symbolic import Leaf, Lengths

if TYPE_CHECKING:
    from .tensor import LazyTensor

# A dense array that is differentiated is computed in parts: the derivative of each takes a number for each component of each pair.
DIFFERENTIATED_AT_ONCE = 1 << 24
APART = "arrays of indices for several axes pick entries one by one, as in NumPy; for some of each axis, index one axis after the other"
# Below so many columns, they are the batches of a dense array and the rows lie along the lanes.
FEW_COLUMNS = 64


class Matrix(Folds):
    """What makes a symbolic matrix behave like an array."""

    # ---- parts

    def __getitem__(self, key: Any) -> Any:
        """Rows, columns, batches and components, as NumPy indexes them.

        Slices (of any step), masks and arrays of whole numbers give a LazyTensor of the rows and columns that they pick; slices are
        views of the arrays that self is made of. Arrays for both rows and columns pick pairs, as in NumPy: ``K[i, j]`` is
        ``K.at(i, j)``, an array; ``K[i[:, None], j]`` or ``K[np.ix_(i, j)]`` is the matrix of those rows and columns. A single row or
        column, ``K[3]`` or ``K[:, 5]``, and a single entry are computed: they are arrays. ``None`` adds an axis: in front or among
        the batches, an inner one at the end, and ``K[:, None, :]`` makes each row a batch.

        Where NumPy puts the axis of an index array first because a whole number stands apart from it, that of picked rows or columns
        stays in its place, as in PyTorch; of pairs it is where the arrays' framework has it.

        Returns
        -------
        LazyTensor
            Where rows and columns are left.
        array
            Otherwise, of NumPy's shape; differentiable in PyTorch.

        Raises
        ------
        IndexError
            Where an index is out of bounds, with the first that is and its position; or where it is none that NumPy would take.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
        >>> K, dense = Vi(x) | Vj(y), x @ y.T
        >>> K[1:4, ::-2].shape
        (3, 4)
        >>> np.allclose(K[[0, 3], :].sum(axis=1), dense[[0, 3]].sum(axis=1))
        True
        >>> np.allclose(K[[0, 3], [6, 2]], dense[[0, 3], [6, 2]]), np.allclose(K[2], dense[2])
        (True, True)
        """
        like = self._indexable()
        assert self._kind is not None
        first = len(self._batch)
        names = (*["batches"] * first, "rows", "columns", *["components"] * self._inner)
        keys = read(key, self.shape, names, self._kind.backend, like)
        places = [n for n, k in enumerate(keys) if k is not None]
        rows, columns = places[first], places[first + 1]
        inner = places[first + 2] if self._inner else len(keys)
        between, behind = columns - rows - 1, inner - columns - 1
        if inner < len(keys) - 1:
            raise IndexError(f"a new axis behind the components of {self.shape}: a symbolic matrix has one inner axis")
        batch, r, c = keys[:rows], keys[rows], keys[columns]
        component = keys[inner] if self._inner else range(0)
        picked: Any = self._components(component) if self._inner else self
        if self._mask is not None and between:
            raise IndexError(f"the rows of a masked matrix {self.shape} are no batches: take some of them, K[2:5], or K.dense()")
        pairs = not isinstance(r, range) and not isinstance(c, range) and not _crossed(r, c)
        of_batches = sum(k is not None and is_points(k) for k in batch)
        others = is_points(r) or is_points(c)
        if is_points(component) and (of_batches or others) or of_batches > (1 if not others else len(batch) * pairs):
            raise IndexError(f"{APART}: K[b][:, i][..., d]")
        if pairs:
            if between or behind:
                raise IndexError("a new axis beside the indices of pairs: index first, then add it to the array")
            whole = picked._unmasked()
            entries = whole._entries(batch, r, c) if of_batches else whole._batches(batch)._entries([], r, c)
            if self._mask is not None:
                entries = picked._where_there(entries, self._mask.at(on_host(r), on_host(c)))
            return entries if of_batches else _in_front(entries, batch, (r, c), picked._inner)
        picked = picked._batches(batch)._sub(r, c)
        if isinstance(r, int) or isinstance(c, int):
            every = slice(None)
            taken = [0 if isinstance(r, int) else every, *[None] * between, 0 if isinstance(c, int) else every, *[None] * behind]
            return picked.dense()[(Ellipsis, *taken, *[every] * picked._inner)]
        if between > 1 or behind > (not picked._inner):
            raise IndexError(f"a new axis of {self.shape} stands in front, between rows and columns, or at the end as the inner axis")
        if behind:
            picked = picked._with(picked.formula, True)
        return picked._rows_as_batches() if between else picked

    def at(self, i: Any, j: Any) -> Any:
        """The values at pairs (i, j), such as the edges of a graph; differentiable, to any order.

        Parameters
        ----------
        i, j : array of whole numbers
            The row and the column of each pair, (P,); arrays of several axes and numbers broadcast. Below 0 they count from the end.

        Returns
        -------
        array, (…, P) or (…, P, D)
            After the batch axes, a value for each pair.

        Raises
        ------
        IndexError
            Where one is out of bounds, with the first that is and its position; or where shapes do not broadcast.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
        >>> i, j = np.array([0, 0, 4]), np.array([1, 6, -1])
        >>> np.allclose((Vi(x) | Vj(y)).at(i, j), (x @ y.T)[i, j])
        True
        """
        like = self._indexable()
        backend = self._kind.backend  # type: ignore[union-attr]
        m, n = self._outer_lengths()
        rows, columns = indices(i, m, "rows", backend, like), indices(j, n, "columns", backend, like)
        try:
            np.broadcast_shapes(tuple(rows.shape), tuple(columns.shape))
        except ValueError:
            shapes = f"{tuple(rows.shape)} and {tuple(columns.shape)}"
            raise IndexError(f"at takes a row and a column for each pair, not arrays of shapes {shapes}, which do not broadcast") from None
        if self._mask is not None:
            return self._where_there(self._unmasked()._entries([], rows, columns), self._mask.at(on_host(rows), on_host(columns)))
        return self._entries([], rows, columns)

    def _unmasked(self) -> Any:
        """The whole matrix."""
        whole: Any = self._with(self.formula, self._inner)
        whole._mask = None
        return whole

    def _where_there(self, entries: Any, there: np.ndarray) -> Any:
        """Entries, 0 where a mask has no pair."""
        assert self._kind is not None
        backend = self._kind.backend
        kept = backend.indices(there, self._indexable()) != 0
        return backend.module.where(kept[..., None] if self._inner else kept, entries, 0)

    def diagonal(self, offset: int = 0) -> Any:
        """The entries (i, i + offset), in linear time; 0 where a mask has no pair.

        Returns
        -------
        array, (…, n) or (…, n, D)
        """
        offset = whole_number("diagonal", offset)
        top, left, count = diagonal_within(self._outer_lengths(), offset)
        if self._mask is not None:
            numbers = np.arange(count)
            return self._where_there(self._unmasked().diagonal(offset), self._mask.at(numbers + top, numbers + left))
        start = {"i": top, "j": left}

        def along(leaf: Leaf) -> Leaf:
            return leaf if leaf.axis == "p" else Leaf(_take(leaf.value, range(start[leaf.axis], start[leaf.axis] + count), 1), "i")

        return self._at_pairs(along, self._batch, count)

    def trace(self, offset: int = 0) -> Any:
        """The sum of the diagonal, (…) or (…, D)."""
        return self.diagonal(offset).sum(-2 if self._inner else -1)

    def dense(self) -> Any:
        """All entries, as an array: for looking at small matrices, and for what needs them.

        Returns
        -------
        array, (…, M, N) or (…, M, N, D)
            Differentiable in PyTorch.

        Raises
        ------
        MemoryError
            Where it would take more than the memory that is free.

        Examples
        --------
        >>> import numpy as np
        >>> from pairfold import Vi, Vj
        >>> x, y = np.random.rand(5, 3), np.random.rand(7, 3)
        >>> np.allclose((Vi(x) | Vj(y)).dense(), x @ y.T)
        True
        """
        like = self._indexable()
        assert self._kind is not None
        backend = self._kind.backend
        if self._mask is not None:
            return self._where_there(self._unmasked().dense(), self._mask.dense())
        a_number = BYTES[backend.real(self._kind.dtype)] * (1 + self._complex)
        memory.require(math.prod(self.shape) * a_number, backend.free_bytes(like), f"the dense array of shape {self.shape}")
        m, n = self._outer_lengths()
        if n < min(m, FEW_COLUMNS):
            return self.T.dense().swapaxes(len(self._batch), len(self._batch) + 1)
        arrays = [leaf.value for leaf in self.leaves if not isinstance(leaf.value, float)]
        at_once = max(1, DIFFERENTIATED_AT_ONCE // max(1, n * math.prod(self._batch) * max(a.shape[-1] for a in arrays)))
        if m > at_once and backend.differentiable(arrays):
            parts = [self._sub(range(k, min(m, k + at_once)), range(n))._all() for k in range(0, m, at_once)]
            return backend.module.concatenate(parts, len(self._batch))
        return self._all()

    # ---- how

    def _all(self) -> Any:
        """All entries: each row is a batch, and a sum along it has one term."""
        rows = self._rows_as_batches()
        return rows._run((rows.formula,), Sum(), ROWS)

    def _indexable(self) -> Any:
        """One of the arrays that self is made of."""
        if self._kind is None:
            raise TypeError(f"{self!r} is made of numbers alone: nothing tells its size, type or framework")
        return self._an_array()

    def _outer_lengths(self) -> tuple[int, int]:
        m, n = self._lengths
        return 1 if m is None else m, 1 if n is None else n

    def _changed(self, change: Callable[[Leaf], Leaf], batch: tuple[int, ...], lengths: Lengths) -> LazyTensor:
        """Self with other arrays in place of its own, and the shape that it has then."""
        made = self._with(self.formula, self._inner)
        made.leaves = tuple(leaf if isinstance(leaf.value, float) else change(leaf) for leaf in self.leaves)
        made.formula = _with_axes(self.formula, tuple(leaf.axis for leaf in made.leaves))
        made._batch, made._lengths = batch, lengths
        return made

    def _rows_as_batches(self) -> LazyTensor:
        """(…, M, 1, N): each row is a batch."""

        def apart(leaf: Leaf) -> Leaf:
            return Leaf(leaf.value[..., None, :] if leaf.axis != "j" else leaf.value[..., None, :, :], leaf.axis)

        rows, columns = self._lengths
        return self._changed(apart, (*self._batch, 1 if rows is None else rows), (rows and 1, columns))

    def _sub(self, rows: Key, columns: Key) -> Any:
        """Some rows and columns: a number picks a matrix of one."""
        keys = {}
        lengths = []
        for axis, key, own in zip("ij", (rows, columns), self._lengths, strict=True):
            if isinstance(key, int):
                key = range(key, key + 1)
            elif is_points(key):
                if key.ndim > 1 and not _crossed(rows, columns):
                    raise IndexError(f"an array of indices of shape {tuple(key.shape)}: that of rows or columns alone has one axis")
                key = key.reshape(-1)
            keys[axis] = key
            lengths.append(None if own is None and isinstance(key, range) and key == range(1) else len(key))
        made = self._changed(
            lambda leaf: leaf if leaf.axis == "p" else Leaf(_take(leaf.value, keys[leaf.axis], 1), leaf.axis),
            self._batch,
            (lengths[0], lengths[1]),
        )
        if self._mask is not None and not all(_is_whole(key, n) for key, n in zip(keys.values(), self._outer_lengths(), strict=True)):
            made._mask = self._mask.picked(keys["i"], keys["j"])
        return made

    def _batches(self, keys: Sequence[Key | None]) -> Any:
        """Some batches, and new axes among them."""
        if len(keys) == len(self._batch) and all(map(_is_whole, keys, self._batch)):
            return self
        if any(k is not None and is_points(k) and k.ndim > 1 for k in keys):
            raise IndexError("an array of indices of batches has one axis")

        def some(leaf: Leaf) -> Leaf:
            value, behind, own = leaf.value, 1 + (leaf.axis != "p"), len(leaf.batch)
            for key in reversed(keys):
                if key is None:
                    value = value[(..., None, *[slice(None)] * behind)] if own else value
                    behind += own > 0
                elif own:
                    own -= 1
                    if value.shape[own] > 1:
                        value = _take(value, key, behind)
                    elif isinstance(key, int):
                        value = _take(value, 0, behind)
                    behind += not isinstance(key, int)
            return Leaf(value, leaf.axis)

        batch = tuple(1 if k is None else len(k) for k in keys if not isinstance(k, int))
        return self._changed(some, batch, self._lengths)

    def _entries(self, batch: Sequence[Key | None], i: Key, j: Key) -> Any:
        """The values at pairs, or at pairs of batches where there is a key for each of the batch axes."""
        backend, like = self._kind.backend, self._an_array()  # type: ignore[union-attr]
        if any(k is None or isinstance(k, range) for k in batch):
            raise IndexError(f"{APART}: K[b][:, i, j]")
        places = [backend.indices(k, like) for k in (*batch, i, j)]
        try:
            shape = np.broadcast_shapes(*(tuple(p.shape) for p in places))
        except ValueError:
            shapes = " and ".join(str(tuple(p.shape)) for p in places)
            raise IndexError(f"indices of shapes {shapes} do not broadcast to one list of pairs") from None
        one = sum(0 * p for p in places)
        places = [(p + one).reshape(-1) for p in places]
        *of_batches, rows, columns = places

        def at(leaf: Leaf) -> Leaf:
            own = [b * (n > 1) for b, n in zip(of_batches[len(of_batches) - len(leaf.batch) :], leaf.batch, strict=True)] if batch else []
            if leaf.axis == "p":
                return Leaf(leaf.value[tuple(own)], "i") if own else leaf
            place = rows if leaf.axis == "i" else columns
            return Leaf(leaf.value[(*own, place)] if batch else leaf.value[..., place, :], "i")

        kept = () if batch else self._batch
        values = self._at_pairs(at, kept, len(rows))
        return values.reshape((*kept, *shape, *values.shape[len(kept) + 1 :]))[()]

    def _at_pairs(self, gather: Callable[[Leaf], Leaf], batch: tuple[int, ...], count: int) -> Any:
        """The values at pairs that `gather` makes rows of: (*batch, count), or (*batch, count, D)."""
        pairs = self._changed(gather, batch, (count, None))
        return pairs._run((pairs.formula,), Sum(), COLUMNS)

    def _components(self, key: Key) -> Any:
        """Some components of each vector."""
        if isinstance(key, int):
            return self._with(extract(self.formula, key, 1), False)
        if is_points(key) and key.ndim > 1:
            raise IndexError("an array of indices of components has one axis")
        wanted = list(key) if isinstance(key, range) else [int(k) for k in key]
        if not wanted:
            raise IndexError(f"no components of {self.shape} are left: vectors have at least one")
        if wanted == list(range(self.formula.dim)):
            return self
        if self.formula.op.name == "var" and len(self.leaves) == 1 and not wanted == list(range(wanted[0], wanted[-1] + 1)):
            (leaf,) = self.leaves
            made = self._with(self.formula, True)
            made._set_leaf(Leaf(_take(leaf.value, key, 0), leaf.axis), inner=True)
            made._batch, made._lengths = self._batch, self._lengths
            return made
        # Components one after the other are taken together.
        starts = [n for n, k in enumerate(wanted) if n == 0 or k != wanted[n - 1] + 1]
        runs = [(wanted[a], b - a) for a, b in zip(starts, [*starts[1:], len(wanted)], strict=True)]
        parts = [extract(self.formula, start, length) for start, length in runs]
        return self._with(apply("concat", *parts) if len(parts) > 1 else parts[0], True)


def _is_whole(key: Key | None, length: int) -> bool:
    """Whether a key picks all of an axis as it is."""
    return isinstance(key, range) and key == range(length)


def _in_front(entries: Any, batch: Sequence[Key | None], pairs: Sequence[Any], inner: bool) -> Any:
    """The axes of index arrays first where NumPy puts them: behind a whole number among the batches that stands apart from them."""
    numbers = [k for k, key in enumerate(batch) if isinstance(key, int)]
    if not numbers or all(isinstance(key, int) for key in batch[numbers[0] :]) or backend_of(entries).name == "torch":
        return entries
    axes = max(map(np.ndim, pairs))
    first = entries.ndim - axes - inner
    return backend_of(entries).module.moveaxis(entries, tuple(range(first, first + axes)), tuple(range(axes)))


def _crossed(rows: Key, columns: Key) -> bool:
    """Whether arrays of indices broadcast to all pairs of the two, as those of ``np.ix_``."""
    if not is_points(rows) or not is_points(columns):
        return False
    return rows.ndim == 2 and rows.shape[1] == 1 and (columns.ndim == 1 or columns.ndim == 2 and columns.shape[0] == 1)


def _take(value: Any, key: Key, behind: int) -> Any:
    """An array indexed along one axis, that with so many behind it; a view where the framework has one."""
    after = [slice(None)] * behind
    if not isinstance(key, range):
        return value[(Ellipsis, key, *after)]
    if _is_whole(key, value.shape[value.ndim - 1 - behind]):
        return value
    if key.step > 0:
        return value[(Ellipsis, slice(key.start, key.stop, key.step), *after)]
    # PyTorch has no negative steps.
    forward = value[(Ellipsis, slice(key[-1], key[0] + 1, -key.step) if key else slice(0), *after)]
    return backend_of(value).module.flip(forward, (value.ndim - 1 - behind,))


@lru_cache(maxsize=4096)
def _with_axes(formula: Node, axes: tuple[str, ...]) -> Node:
    """The formula with variable k along ``axes[k]``."""

    def turn(node: Node) -> Node | None:
        return var(axes[node.attrs[1]], *node.attrs[1:]) if node.op.name == "var" else None

    return rewrite((formula,), turn)[0]
