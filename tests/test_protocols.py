"""NumPy's and PyTorch's own functions of LazyTensors, against the same functions of dense float64 arrays."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold import LazyTensor, LinearOperator, Vi, Vj
from pairfold.lazy import protocols

torch = pytest.importorskip("torch")
M, N, D = 4, 6, 3
RNG = np.random.default_rng(7)
X, Y = RNG.uniform(0.1, 0.9, (M, 1, D)), RNG.uniform(0.1, 0.9, (1, N, D))
KINDS = ["numpy", "torch"]


def give(array, kind):
    return torch.from_numpy(np.array(array)) if kind == "torch" else np.array(array)


def problem(kind, inner=False):
    """Symbolic and dense, in the framework."""
    lazy, full = LazyTensor(give(X, kind)) * LazyTensor(give(Y, kind)), give(X * Y, kind)
    return (lazy, full) if inner else (lazy.sum(-1), full.sum(-1))


def close(found, want, rtol=1e-12):
    found = found.dense() if hasattr(found, "dense") else found
    assert isinstance(found, (torch.Tensor, np.ndarray, np.generic))
    assert tuple(found.shape) == tuple(want.shape)
    want = want.resolve_conj() if isinstance(want, torch.Tensor) else want
    np.testing.assert_allclose(np.asarray(found), np.asarray(want), rtol=rtol, atol=1e-14)


# ---- functions of one number at a time: all that are in the table of operators


def framework_functions(module):
    """The framework's functions that mean operators of the table, by name; those that PyTorch keeps elsewhere included."""
    places = [np] if module is np else [torch, torch.nn.functional, torch.special]
    names = protocols._ELEMENTWISE | set(protocols._SYNONYMS) | {"arcsin", "arccos", "arctan", "arctan2", "reciprocal", "positive"}
    return {name: getattr(place, name) for place in reversed(places) for name in names if callable(getattr(place, name, None))}


def operator_of(name):
    name = protocols._SYNONYMS.get(name, name)
    return name.replace("arc", "a", 1) if name.startswith("arc") else name


BINARY = {"add", "sub", "mul", "div", "pow", "mod", "lt", "le", "gt", "ge", "eq", "ne", "atan2", "hypot", "logaddexp", "minimum", "maximum",
          "logical_and", "logical_or"}  # fmt: skip
ELEMENTWISE = [
    pytest.param(module, name, id=f"{module.__name__}.{name}")
    for module in (np, torch)
    for name in sorted(framework_functions(module))
    if operator_of(name) in protocols._ELEMENTWISE | {"reciprocal", "positive"}
    and operator_of(name) not in ("where", "clamp")
    and (module, name) != (torch, "equal")
]


@pytest.mark.parametrize(("module", "name"), ELEMENTWISE)
def test_elementwise(module, name):
    kind = "numpy" if module is np else "torch"
    function = framework_functions(module)[name]
    lazy, full = problem(kind)
    if operator_of(name) not in protocols._OTHERS and not any(
        hasattr(LazyTensor, n) for n in (operator_of(name), f"__{protocols._OF_PYTHON.get(operator_of(name), operator_of(name))}__")
    ):
        with pytest.raises(TypeError, match=f"{name} does not take a symbolic matrix"):
            function(*[lazy] * (1 + (operator_of(name) in BINARY)))
        return
    shifted, dense = (
        (lazy - 0.4, full - 0.4) if operator_of(name) in ("sign", "abs", "relu", "floor", "ceil", "trunc", "round") else (lazy, full)
    )
    if operator_of(name) not in BINARY:
        found, want = function(shifted / 2), function(dense / 2)
        assert isinstance(found, LazyTensor)
        close(found, want, 1e-11)
        return
    y = Y[..., 0]
    for other, same in ((Vj(give(y[0], kind)), give(y, kind)), (lazy * 1.5, full * 1.5)):
        close(function(lazy, other), function(full, same) * 1.0)
        close(function(other, lazy), function(same, full) * 1.0)
    close(function(give(y, kind), lazy), function(give(y, kind), full) * 1.0)
    close(function(lazy, give(y, kind)), function(full, give(y, kind)) * 1.0)
    if module is np or name not in ("atan2", "arctan2", "hypot", "logaddexp", "minimum", "maximum", "logical_and", "logical_or"):
        close(function(lazy, 0.7), function(full, 0.7) * 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_operators_with_an_array_on_the_left(kind):
    lazy, full = problem(kind)
    x = give(X[..., 0], kind)
    for found, want in ((x + lazy, x + full), (x - lazy, x - full), (x * lazy, x * full), (x / lazy, x / full), (x**lazy, x**full),
                        (x % lazy, x % full), (x < lazy, (x < full) * 1.0), (x >= lazy, (x >= full) * 1.0), (x == lazy, (x == full) * 1.0),
                        (x != lazy, (x != full) * 1.0)):  # fmt: skip
        assert isinstance(found, LazyTensor)
        close(found, want)
    vectors, dense = problem(kind, inner=True)
    close(give(X, kind) | vectors, (give(X, kind) * dense).sum(-1))  # the inner product
    b = give(RNG.random((2, M)), kind)
    close(b @ lazy, b @ full)
    close(np.float64(0.7) * lazy, 0.7 * full)


# ---- reductions


def arguments(kind):
    return [{}, *({name: k} for name in (("axis",) if kind == "numpy" else ("axis", "dim")) for k in (0, 1, -1))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(
    "name",
    ["sum", "mean", "var", "std", "prod", "min", "max", "amin", "amax", "argmin", "argmax", "any", "all", "count_nonzero", "logsumexp"],
)
def test_reductions(name, inner, kind):
    module = np if kind == "numpy" else torch
    function = getattr(module, name, None)
    if function is None:
        return
    lazy, full = problem(kind, inner)
    if name in ("any", "all", "count_nonzero"):
        lazy, full = lazy > 0.3, (full > 0.3) * 1.0
    pairs = kind == "torch" and name in ("min", "max")  # of values and indices, along an axis
    for options in arguments(kind):
        (axis,) = options.values() or (None,)
        if axis is None and name == "logsumexp" or axis == -1 and inner and name in ("prod", "logsumexp"):
            continue
        kept = {"keepdims" if kind == "numpy" else "keepdim": True}
        calls = [options, options | kept] if axis is not None and name != "count_nonzero" else [options]
        for of in calls:
            found, want = function(lazy, **of), function(full, **of)
            for f, w in zip(found, want, strict=True) if pairs and axis is not None else [(found, want)]:
                close(f, w * 1.0)
    if name in ("sum", "mean", "amin", "any"):
        close(function(lazy, (0, 1)), function(full, (0, 1)) * 1.0)


def test_reductions_of_the_frameworks():
    lazy, full = problem("torch")
    close(torch.sum(lazy, 1, True), torch.sum(full, 1, True))
    close(torch.logsumexp(lazy, 1), torch.logsumexp(full, 1))
    close(torch.var(lazy, 1, correction=0), torch.var(full, 1, correction=0))
    close(torch.min(lazy, lazy.T.T * 0 + 0.4), torch.clamp(full, max=0.4))
    for order in ({}, {"p": "fro"}):
        close(torch.norm(lazy, **order), torch.norm(full, **order))
        close(torch.norm(lazy, dim=1, **order), torch.norm(full, dim=1, **order))
    close(torch.linalg.norm(lazy), torch.linalg.norm(full))
    close(torch.linalg.norm(lazy, dim=0, ord=2), torch.linalg.norm(full, dim=0, ord=2))
    close(torch.linalg.vector_norm(lazy), torch.linalg.vector_norm(full))
    lazy, full = problem("numpy")
    close(np.var(lazy, 1, ddof=1), np.var(full, 1, ddof=1))
    for options in ({}, {"axis": 0}, {"axis": 1, "keepdims": True}, {"ord": "fro"}, {"ord": 2, "axis": 1}, {"axis": (0, 1)}):
        close(np.linalg.norm(lazy, **options), np.linalg.norm(full, **options))
    lazy, full = problem("numpy", inner=True)
    close(np.linalg.norm(lazy, axis=-1), np.linalg.norm(full, axis=-1))
    close(np.linalg.norm(lazy), np.linalg.norm(full))
    lazy, full = problem("torch")
    close(np.var(lazy), np.var(full.numpy()))  # what NumPy is asked is NumPy's variance, of tensors too


# ---- others


@pytest.mark.parametrize("kind", KINDS)
def test_other_functions(kind):
    module = np if kind == "numpy" else torch
    lazy, full = problem(kind)
    vectors, dense = problem(kind, inner=True)
    b = give(RNG.random((N, 2)), kind)
    close(module.where(lazy > 0.5, lazy, -lazy), module.where(full > 0.5, full, -full))
    close(module.where(lazy > 0.5, lazy, 0), module.where(full > 0.5, full, 0))
    close(module.where(lazy > 0.5, give(X[..., 0], kind), lazy), module.where(full > 0.5, give(X[..., 0], kind), full))
    close(module.matmul(lazy, b), full @ b)
    close(module.matmul(b.T, module.transpose(lazy, *((0, 1) if kind == "torch" else ()))), b.T @ full.T)
    close(module.clip(lazy, 0.3, 0.6), module.clip(full, 0.3, 0.6))
    close(module.clip(lazy, None, 0.6), module.clip(full, None, 0.6))
    close(module.concatenate([vectors, vectors], -1), module.concatenate([dense, dense], -1))
    close(module.diagonal(lazy), module.diagonal(full))
    close(module.diagonal(lazy, 1), module.diagonal(full, 1))
    close(module.trace(lazy), module.trace(full))
    close(module.swapaxes(lazy, 0, 1), module.swapaxes(full, 0, 1))
    close(module.swapaxes(vectors, 1, 0), module.swapaxes(dense, 1, 0))
    close(module.round(lazy, decimals=1), module.round(full, decimals=1))
    assert isinstance(module.matmul(lazy, lazy.T), LinearOperator)


def test_functions_of_numpy():
    lazy, full = problem("numpy")
    assert (np.shape(lazy), np.ndim(lazy), np.size(lazy)) == ((M, N), 2, M * N)
    close(np.dot(lazy, np.ones(N)), full.sum(1))
    close(np.transpose(lazy), full.T)
    close(np.transpose(lazy, (1, 0)), full.T)
    close(np.block([[lazy, lazy]]) @ np.ones(2 * N), 2 * full.sum(1))
    close(lazy.T.__rmatmul__(np.ones(N)), full.sum(1))
    close(np.sum(lazy, axis=(0, 1), keepdims=True), full.sum(keepdims=True))


def test_functions_of_torch():
    lazy, full = problem("torch")
    b = torch.ones(N, dtype=torch.float64)
    close(torch.mv(lazy, b), full @ b)
    close(torch.mm(lazy, torch.stack([b, b], 1)), full @ torch.stack([b, b], 1))
    close(torch.t(lazy), full.T)
    close(torch.clamp(lazy, min=0.5), full.clamp(min=0.5))
    close(torch.clamp(lazy, max=0.5), full.clamp(max=0.5))
    close(torch.nn.functional.relu(lazy - 0.5), torch.relu(full - 0.5))
    close(torch.Tensor.add(full[:, :1], lazy), full[:, :1] + full)
    close(torch.cat([lazy[..., None], lazy[..., None]], dim=2), torch.stack([full, full], 2))


@pytest.mark.parametrize("kind", KINDS)
def test_complex_numbers(kind):
    z, w = RNG.normal(size=(M, 2)).view(complex), RNG.normal(size=(N, 2)).view(complex)
    module, to = (torch, torch.from_numpy) if kind == "torch" else (np, np.asarray)
    lazy, full = LazyTensor(to(z)) - LazyTensor(to(w.T)), to(z) - to(w.T)
    for name in ("exp", "abs", "conj", "real", "imag", "angle", "square", "sin", "reciprocal"):
        close(getattr(module, name)(lazy), getattr(module, name)(full))
    for name in ("sum", "mean", "prod", "var", "std"):
        close(getattr(module, name)(lazy), getattr(module, name)(full))
    close(module.where(module.abs(lazy) > 1, lazy, 0), module.where(module.abs(full) > 1, full, 0))
    close(to(z) * lazy, to(z) * full)
    close(to(z.real.copy()) * lazy, to(z.real.copy()) * full)
    close(to(z) * module.real(lazy), to(z) * full.real)
    with pytest.raises(TypeError, match="no order"):
        module.maximum(lazy, lazy)


def test_gradients_pass():
    x = torch.tensor(X, requires_grad=True)

    def value(K):
        return torch.sum(torch.exp(-torch.sqrt(torch.sum(K, dim=-1))), dim=1).sum()

    found = torch.autograd.grad(value((LazyTensor(x) - LazyTensor(torch.tensor(Y + 1))) ** 2), x)
    want = torch.autograd.grad(value((x - torch.tensor(Y + 1)) ** 2), x)
    torch.testing.assert_close(found, want)


# ---- what is refused


def test_messages():
    lazy, full = problem("numpy")
    tensor, dense = problem("torch")

    def in_place(array, by):
        array += by

    cases = [
        (lambda: np.linalg.inv(lazy), ["numpy.linalg.inv does not take a symbolic matrix", "K.sum(axis=1)", "K.dense()"]),
        (lambda: np.sinc(lazy), ["numpy.sinc does not take"]),
        (lambda: np.fmod(lazy, 2), ["numpy.fmod does not take"]),
        (lambda: np.cumsum(lazy, 1), ["numpy.cumsum"]),
        (lambda: np.add.reduce(lazy), ["numpy.add.reduce"]),
        (lambda: np.multiply.outer(lazy, np.ones(3)), ["numpy.multiply.outer"]),
        (lambda: in_place(np.ones((M, N)), lazy), ["numpy.add cannot write a symbolic matrix of shape (4, 6)", "x = x + K"]),
        (lambda: np.exp(lazy, out=np.ones((M, N))), ["cannot write"]),
        (lambda: np.exp(lazy, where=np.ones((M, N), bool)), ["where"]),
        (lambda: np.sum(lazy, 1, float), ["named"]),
        (lambda: np.sum(lazy, axis=1, dtype=float), ["numpy.sum", "not dtype"]),
        (lambda: np.linalg.norm(lazy, 1), ["Euclidean", "Frobenius"]),
        (lambda: np.linalg.norm(lazy, 2), ["Euclidean"]),
        (lambda: np.diagonal(problem("numpy", True)[0]), ["numpy.diagonal takes other axes", "K.diagonal()"]),
        (lambda: np.transpose(problem("numpy", True)[0]), ["rows and columns"]),
        (lambda: torch.linalg.inv(tensor), ["torch.linalg_inv does not take a symbolic matrix"]),
        (lambda: torch.softmax(tensor, 1), ["torch.softmax does not take"]),
        (lambda: torch.sinc(tensor), ["torch.sinc"]),
        (lambda: torch.einsum("ij,j->i", tensor, torch.ones(N)), ["torch.einsum"]),
        (lambda: torch.add(tensor, tensor, alpha=2), ["alpha"]),
        (lambda: torch.sum(tensor, 1, dtype=torch.float32), ["not dtype"]),
        (lambda: torch.equal(tensor, tensor), ["torch.equal"]),
    ]
    for act, parts in cases:
        with pytest.raises(TypeError) as caught:
            act()
        assert all(part in str(caught.value) for part in parts), caught.value
    for act in (lambda: in_place(dense, tensor), lambda: dense.add_(tensor)):  # PyTorch would take a TypeError for "try x = x + K"
        with pytest.raises(RuntimeError, match=r"cannot write a symbolic matrix of shape \(4, 6\) into a tensor.*x = x \+ K"):
            act()
    with pytest.raises(ValueError, match=r"inner axis.*pairfold.block"):
        np.concatenate([lazy, lazy])
    with pytest.raises(ValueError, match=r"\(6,\) beside a matrix of shape \(4, 6\)"):
        np.hypot(np.ones(N), lazy)


@pytest.mark.parametrize("kind", KINDS)
def test_division_with_remainders_and_more_functions(kind):
    lazy, full = problem(kind)
    close(2 % lazy, 2 % full)
    close(lazy // 0.3, full // 0.3)
    close(7 // lazy, 7 // full)
    module = torch if kind == "torch" else np
    for name in ("log2", "log10", "exp2", "isfinite", "isinf"):
        found, want = getattr(module, name)(lazy), getattr(module, name)(full)
        close(found, want * 1.0)


def test_extremes_by_name():
    lazy, full = problem("torch")
    for function in (torch.max, torch.min):
        found, want = function(lazy, dim=1), function(full, dim=1)
        torch.testing.assert_close(found.values, want.values)
        assert (found.indices == want.indices).all()


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_whole_quotients_are_whole(dtype):
    a, b = np.arange(1, 300).astype(dtype)[:, None], np.concatenate([np.arange(-60, 0), np.arange(1, 120)]).astype(dtype)[None]
    quotient, rest = divmod(LazyTensor(a), LazyTensor(b))
    np.testing.assert_array_equal(quotient.dense(), a // b)
    np.testing.assert_array_equal((LazyTensor(b) // LazyTensor(a)).dense(), b // a)
    np.testing.assert_array_equal((quotient * LazyTensor(b) + rest).dense(), a + 0 * b)
    np.testing.assert_array_equal(divmod(7, LazyTensor(a) + 0 * LazyTensor(b))[0].dense(), 7 // a + 0 * b)
    tenths = (LazyTensor(a.astype("f8")) // 0.1 + 0 * LazyTensor(b)).dense()
    np.testing.assert_array_equal(tenths, a.astype("f8") // 0.1 + 0 * b)


@pytest.mark.parametrize(
    "act",
    [
        lambda A: torch.var(A, 1, unbiased=False),
        lambda A: torch.var(A, dim=(0, 1), unbiased=False),
        lambda A: torch.std(A, unbiased=False),
        lambda A: torch.var(A, unbiased=True),
        lambda A: torch.var(A, False),
        lambda A: torch.var(A, 1, False),
        lambda A: torch.std(A, 1, True),
        lambda A: torch.var(A, 1, False, True),
        lambda A: torch.var(A, 1, correction=0),
        lambda A: torch.std(A, 1, keepdim=True),
        lambda A: torch.var(A),
    ],
)
def test_unbiased(act):
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    K = Vi(x) | Vj(y)
    torch.testing.assert_close(act(K), act(x @ y.T))


def test_permutations():
    x, y = np.random.default_rng(0).random((6, 3)), np.random.default_rng(1).random((8, 3))
    K, full = Vi(x) | Vj(y), x @ y.T
    for act in (
        lambda A: np.transpose(A, (0, 1)),
        lambda A: np.transpose(A, (1, 0)),
        lambda A: np.transpose(A, axes=(-1, 0)),
        lambda A: np.transpose(A),
        lambda A: np.swapaxes(A, 0, -1),
        lambda A: np.swapaxes(A, 1, 1),
    ):
        np.testing.assert_allclose(act(K).dense(), act(full), rtol=1e-14)
    batched = LazyTensor(np.random.rand(2, 4, 1, 3)) | LazyTensor(np.random.rand(2, 1, 5, 3))
    np.testing.assert_array_equal(np.transpose(batched, (0, 2, 1)).dense(), batched.dense().swapaxes(1, 2))
    for axes in ((2, 1, 0), (0, 0, 1), (0, 1)):
        with pytest.raises(TypeError, match="exchanges its rows and columns, 1 and 2"):
            np.transpose(batched, axes) if len(axes) == 3 else np.swapaxes(batched, *axes)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda K: np.sum(K, axis=1, where=False), "not where"),
        (lambda K: np.mean(K, axis=1, where=False), "not where"),
        (lambda K: np.add(K, 1, where=False), "takes no where"),
        (lambda K: torch.add(K, K, alpha=2), "takes no alpha"),
    ],
)
def test_options_that_are_not_taken(act, words):
    """Are refused whatever they say, not left out."""
    with pytest.raises(TypeError, match=words):
        act(Vi(np.ones(3)) * Vj(np.ones(4)) if "alpha" not in words else Vi(torch.ones(3)) * Vj(torch.ones(4)))
