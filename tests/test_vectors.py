"""Functions of the inner vector, differential operators and formula strings of LazyTensors, against dense NumPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special  # type: ignore[import-untyped]

from pairfold import FormulaError, LazyTensor, Pm, Vi, Vj, from_string, where

torch = pytest.importorskip("torch")
M, N, D = 5, 7, 3


@pytest.fixture
def data(random):
    return random.normal(size=(M, D)), random.normal(size=(N, D)), random.normal(size=(D, D))


def close(found, wanted, tolerance=1e-11):
    assert tuple(found.shape) == np.shape(wanted)
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=tolerance, atol=tolerance)


def pairs(function, x, y):
    return np.array([[function(a, b) for b in y] for a in x])


# For each method, a LazyTensor of rows x (3), columns y (3) and a matrix A (9), and the same for one pair in NumPy.
VECTORS = {
    "argmax": (lambda x, y, A: (x * y).argmax(-1), lambda a, b, A: (a * b).argmax()),
    "argmin": (lambda x, y, A: (x * y).argmin(dim=2), lambda a, b, A: (a * b).argmin()),
    "elem": (lambda x, y, A: (x * y).elem(-1), lambda a, b, A: a[2] * b[2]),
    "elemT": (lambda x, y, A: (x | y).elemT(1, 4), lambda a, b, A: np.array([0, a @ b, 0, 0])),
    "extract": (lambda x, y, A: (x - y).extract(1, 2), lambda a, b, A: (a - b)[1:]),
    "extractT": (lambda x, y, A: (x - y).extractT(2, 6), lambda a, b, A: np.array([0, 0, *(a - b), 0])),
    "one_hot": (lambda x, y, A: (x[..., 0] + y[..., 1]).abs().one_hot(6), lambda a, b, A: np.eye(99)[int(abs(a[0] + b[1]) + 0.5), :6]),
    "weightedsqnorm, one": (lambda x, y, A: (x - y).weightedsqnorm(0.7), lambda a, b, A: 0.7 * ((a - b) @ (a - b))),
    "weightedsqnorm, diagonal": (lambda x, y, A: (x - y).weightedsqnorm(x), lambda a, b, A: a @ (a - b) ** 2),
    "weightedsqnorm, full": (lambda x, y, A: (x - y).weightedsqnorm(A), lambda a, b, A: (a - b) @ A @ (a - b)),
    "weightedsqdist": (lambda x, y, A: x.weightedsqdist(y, A), lambda a, b, A: (a - b) @ A @ (a - b)),
    "symsqnorm": (lambda x, y, A: (x * y).symsqnorm(A), lambda a, b, A: (a * b) @ A @ (a * b)),
    "cross": (lambda x, y, A: x.cross(y), lambda a, b, A: np.cross(a, b)),
    "difference_matrix": (lambda x, y, A: x.difference_matrix(y), lambda a, b, A: np.subtract.outer(a, b).ravel()),
    "bspline": (
        lambda x, y, A: Pm(np.arange(-4.0, 5)).bspline(x[..., 1] + y[..., 2], 1),
        lambda a, b, A: np.maximum(0, 1 - abs(a[1] + b[2] - np.arange(-3, 4))),
    ),
    "matvecmult": (lambda x, y, A: A.matvecmult(x - y), lambda a, b, A: A @ (a - b)),
    "matvecmult, one row": (lambda x, y, A: x.matvecmult(y), lambda a, b, A: [a @ b]),
    "vecmatmult": (lambda x, y, A: (x * y).vecmatmult(A), lambda a, b, A: (a * b) @ A),
    "tensorprod": (lambda x, y, A: x.tensorprod(y), lambda a, b, A: np.outer(a, b).ravel()),
    "keops_kron": (lambda x, y, A: (x * y).keops_kron(A, [1, 3], (3, 3)), lambda a, b, A: np.kron((a * b)[None], A).ravel()),
    "kron": (lambda x, y, A: x.kron(y, (3, 1), (1, 3)), lambda a, b, A: np.kron(a[:, None], b[None]).ravel()),
    "keops_tensordot": (
        lambda x, y, A: A.keops_tensordot(x.tensorprod(y), (3, 3), (3, 3), (0,), (1,), (1, 0)),
        lambda a, b, A: np.tensordot(A, np.outer(a, b), ((0,), (1,))).T.ravel(),
    ),
    "tensordot": (lambda x, y, A: A.tensordot(A, [3, 3], [3, 3], 0, 0) * (x | y), lambda a, b, A: (A.T @ A).ravel() * (a @ b)),
    "factorize": (lambda x, y, A: (x * y).factorize(x), lambda a, b, A: a * b),
    "lgamma": (lambda x, y, A: (x * y).abs().lgamma(), lambda a, b, A: scipy.special.gammaln(abs(a * b))),
    "digamma": (lambda x, y, A: ((x * y).abs() + 1).digamma(), lambda a, b, A: scipy.special.digamma(abs(a * b) + 1)),
    "polygamma": (lambda x, y, A: ((x * y).abs() + 1).polygamma(2), lambda a, b, A: scipy.special.polygamma(2, abs(a * b) + 1)),
    "ifelse": (lambda x, y, A: (x - y).ifelse(x, 2), lambda a, b, A: np.where(a >= b, a, 2)),
    "clamp": (lambda x, y, A: (x * y).clamp(-1, 1), lambda a, b, A: np.clip(a * b, -1, 1)),
    "mod": (lambda x, y, A: (x * 9).mod(y.abs() + 1, 0.5), lambda a, b, A: (a * 9 - 0.5) % (abs(b) + 1) + 0.5),
    "logical": (
        lambda x, y, A: (x > y).logical_and(x > 0).logical_or((y > 1).logical_not()),
        lambda a, b, A: ((a > b) & (a > 0) | ~(b > 1)) * 1.0,
    ),
    "isnan": (lambda x, y, A: (x - y).log().isnan(), lambda a, b, A: (a < b) * 1.0),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name, kind, data):
    x, y, A = data
    give = torch.from_numpy if kind == "torch" else np.asarray
    build, meaning = VECTORS[name]
    if name == "bspline" and kind == "torch":
        build = lambda x, y, A: Pm(torch.arange(-4.0, 5, dtype=torch.float64)).bspline(x[..., 1] + y[..., 2], 1)  # noqa: E731
    K = build(Vi(give(x)), Vj(give(y)), Pm(give(A.ravel())))
    wanted = pairs(lambda a, b: meaning(a, b, A), x, y).astype(float)
    assert K.shape[2:] == wanted.shape[2:]
    close(K.sum(axis=1), wanted.sum(1))


def test_softdtw(data):
    def warp(a, b, gamma):
        cost = np.full((4, 3), np.inf)
        cost[0, 0] = 0
        for r in range(1, 4):
            for c in range(1, 3):
                ways = np.array([cost[r - 1, c - 1], cost[r - 1, c], cost[r, c - 1]])
                cost[r, c] = (a[r - 1] - b[c - 1]) ** 2 - gamma * scipy.special.logsumexp(-ways / gamma)
        return cost[3, 2]

    x, z = data[0], data[1][:, :2]
    close(Vi(x).softdtw_sqdist(Vj(z), 0.3).sum(1), pairs(lambda a, b: warp(a, b, 0.3), x, z).sum(1))


def test_batches(random):
    x, y, A = random.normal(size=(2, M, 1, 3)), random.normal(size=(1, 1, N, 3)), random.normal(size=(4, 1, 1, 1, 6))
    K = LazyTensor(A).matvecmult(LazyTensor(x) - LazyTensor(y))
    assert K.shape == (4, 2, M, N, 2)
    close(K.sum(axis=3), np.einsum("bkl,cijl->bcik", A.reshape(4, 2, 3), x - y))


def test_gradients_of_a_network(random):
    """Weights as parameters, with PyTorch's gradients; some of them second ones."""
    shapes = [(6, 3), (6,), (6, 6), (6,), (1, 6)]
    weights = [torch.from_numpy(random.normal(size=s)).requires_grad_() for s in shapes]
    x, y = (torch.from_numpy(random.normal(size=(n, 3))).requires_grad_() for n in (M, N))

    def dense(x, y, W1, b1, W2, b2, W3):
        h = torch.tanh((x[:, None] - y) @ W1.T + b1)
        return (torch.tanh(h @ W2.T + b2) @ W3.T)[..., 0].sum(1)

    def symbolic(x, y, W1, b1, W2, b2, W3):
        h = (Pm(W1.flatten()).matvecmult(Vi(x) - Vj(y)) + Pm(b1)).tanh()
        h = (Pm(W2.flatten()).matvecmult(h) + Pm(b2)).tanh()
        return Pm(W3.flatten()).matvecmult(h).sum(dim=1)[:, 0]

    inputs = (x, y, *weights)
    found, wanted = symbolic(*inputs), dense(*inputs)
    close(found.detach(), wanted.detach().numpy())
    for g, h in zip(torch.autograd.grad((found**2).sum(), inputs), torch.autograd.grad((wanted**2).sum(), inputs), strict=True):
        close(g, h.numpy(), 1e-9)
    first = [torch.autograd.grad(f(*inputs).sum(), [x, weights[2]], create_graph=True) for f in (symbolic, dense)]
    second = [torch.autograd.grad((a**2).sum() + (b**3).sum(), [y, weights[0]]) for a, b in first]
    for g, h in zip(*second, strict=True):
        close(g, h.numpy(), 1e-8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x, y: x.elem(3), ValueError, "components 3 to 3 asked of a vector of dimension 3"),
        (lambda x, y: x.extractT(2, 4), ValueError, "a vector of dimension 3 does not fit at component 2 of one of dimension 4"),
        (lambda x, y: x.extract(0, 1.5), TypeError, "extract takes whole numbers, not 1.5"),
        (lambda x, y: x.one_hot(3), ValueError, "a one-hot vector encodes one number, not 3"),
        (lambda x, y: x[..., 0].one_hot(True), TypeError, "one_hot takes whole numbers, not True"),
        (lambda x, y: x.weightedsqnorm(np.ones(2)), ValueError, "2 weights for a vector of dimension 3, which takes 1, 3 or 3² = 9"),
        (lambda x, y: x.symsqnorm(np.ones(3)), ValueError, r"symsqnorm takes a matrix of 3² = 9 numbers, not 3"),
        (lambda x, y: x.cross(y[..., :2]), ValueError, "a cross product takes two vectors of dimension 3, not 3 and 2"),
        (lambda x, y: x.bspline(y, 1), ValueError, "splines are evaluated at one number, not at 3"),
        (lambda x, y: x.bspline(y[..., 0], 2), ValueError, "splines of degree 2 take a degree of at least 0 and at least 4 knots, not 3"),
        (lambda x, y: x.matvecmult(y[..., :2]), ValueError, "3 components are no matrix of 2 columns"),
        (lambda x, y: x.keops_kron(y, 3, "3"), TypeError, "kron takes whole numbers, not '3'"),
        (lambda x, y: x.keops_tensordot(y, (3,), (3,), (0,), (1,)), ValueError, r"\(1,\) are not different axes of a tensor"),
        (lambda x, y: x.softdtw_sqdist(y, y), ValueError, "the smoothness is one number, not 3"),
        (lambda x, y: x.polygamma(0), ValueError, "a polygamma function has an order of at least 1, not 0"),
        (lambda x, y: x.round(0.5), TypeError, "round takes whole numbers, not 0.5"),
        (lambda x, y: (x * y).divergence(x + y), TypeError, "derivatives are taken with respect to a LazyTensor made from an array"),
        (lambda x, y: x.laplacian(y), ValueError, "was not made from"),
        (lambda x, y: (x | y).divergence(x), ValueError, "the divergence of a vector of dimension 1 by one of dimension 3"),
        (lambda x, y: (x * x).trace_operator(x), ValueError, "is not built as a linear function of x0"),
        (lambda x, y: (x * y).adjoint_operator(x, np.ones(2)), ValueError, "applied to a vector of dimension 2: the two must agree"),
    ],
)  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make(Vi(np.ones((M, D))), Vj(np.ones((N, D))))


# ---- differential operators


def test_differential_operators_are_differentiated(random):
    """A Laplacian, divergence and Jacobian in a loss: PyTorch's gradients of them."""
    x, y = (torch.from_numpy(random.normal(size=(n, D))).requires_grad_() for n in (M, N))
    x_i, y_j = Vi(x), Vj(y)
    K = (-x_i.sqdist(y_j)).exp()
    field = (x_i - y_j) * K

    def dense(function):
        return torch.stack([torch.stack([function(a, b) for b in y]) for a in x])

    def kernel(a, b):
        return torch.exp(-((a - b) ** 2).sum())

    def vector(a, b):
        return (a - b) * kernel(a, b)

    cases = [
        (K.laplacian(x_i), lambda a, b: torch.func.hessian(kernel)(a, b).trace()),
        (field.divergence(x_i), lambda a, b: torch.func.jacrev(vector)(a, b).trace()),
        (field.grad_matrix(y_j), lambda a, b: torch.func.jacrev(vector, argnums=1)(a, b).ravel()),
        (field.jacobian(x_i), lambda a, b: torch.func.jacrev(vector)(a, b).ravel()),
        (field.laplacian(x_i), lambda a, b: torch.einsum("kll->k", torch.func.hessian(vector)(a, b))),
        ((2 * x_i * y_j).adjoint_operator(x_i, x_i + y_j), lambda a, b: 2 * b * (a + b)),
    ]
    for formula, function in cases:
        found, wanted = formula.sum(dim=1), dense(function).sum(1)
        close(found.detach(), wanted.detach().numpy())
        for g, h in zip(*(torch.autograd.grad((v**2).sum(), [x, y], retain_graph=True) for v in (found, wanted)), strict=True):
            close(g, h.numpy(), 1e-9)


# ---- strings


def test_from_string(data):
    x, y, _ = data
    b = y[:, :2]
    dense = np.exp(-0.5 * np.square(x[:, None] - y).sum(-1))
    text = "Exp(-G*SqDist(X,Y))"
    close(from_string(text, X=Vi(x), Y=Vj(y), G=0.5).sum(axis=1), dense.sum(1))
    close(from_string(text, G=np.array([0.5]), X=Vi(x), Y=Vj(y)) @ b, dense @ b)
    close(from_string(f"{text}*B", ["X = Vi(3)", "Y = Vj(3)", "B = Vj(2)", "G = Pm(1)"], x, y, b, 0.5).sum(axis=1), dense @ b)
    close(from_string("Exp(-Var(2,1,2)*SqDist(Var(0,3,0),Var(1,3,1)))", [], x, y, np.array([0.5])).sum(axis=0), dense.sum(0))
    close(from_string(text, ["G = Pm(2,1)", "X = Vi(0,3)", "Y = Vj(1,3)"], x, y, np.array([0.5])).sum(axis=1), dense.sum(1))
    assert from_string("X-Y", X=Vi(x), Y=Vj(y)).shape == (M, N, D)


def test_strings_with_gradients_and_batches(data):
    x, y = (torch.from_numpy(v).requires_grad_() for v in data[:2])
    (-from_string("SqDist(X,Y)", ["X = Vi(3)", "Y = Vj(3)"], x, y)).exp().sum(dim=1).sum().backward()
    found = x.grad.clone(), y.grad.clone()
    x.grad = y.grad = None
    torch.exp(-((x[:, None] - y) ** 2).sum(-1)).sum().backward()
    close(found[0], x.grad.numpy())
    close(found[1], y.grad.numpy())
    batches = np.stack([data[0], 2 * data[0]])
    K = from_string("X|Y", ["X = Vi(3)", "Y = Vj(3)"], batches, data[1])
    assert K.shape == (2, M, N)
    close(K.sum(axis=2), (batches @ data[1].T).sum(2))


def test_there_and_back(data):
    x, y, A = data
    x_i, y_j = Vi(x), Vj(y)
    K = where(x_i > y_j, (x_i.sqdist(y_j) / 3).exp(), (Pm(A.ravel()).matvecmult(x_i)).relu()).ifelse(1, x_i.mod(2, 0.5)) ** 3
    arrays = [leaf.value for leaf in K.leaves]
    again = from_string(K.to_keops(), [], *arrays)
    assert again.formula is K.formula
    assert "X>Y" in K.to_keops(X=x_i, Y=y_j)
    close(again.sum(axis=1), K.sum(axis=1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x, y: from_string("Epx(X)", X=Vi(x)), FormulaError, "unknown operator 'Epx', did you mean 'Exp'"),
        (lambda x, y: from_string("X+Z", X=Vi(x)), FormulaError, "unknown alias 'Z'"),
        (lambda x, y: from_string("X+Vj(7,3)", X=Vi(x)), ValueError, r"Var\(7,3,1\) stands for no array: give it a name"),
        (lambda x, y: from_string("X", ["X = Vi(3)"], x, X=Vi(x)), TypeError, "or aliases and their arrays, not both"),
        (lambda x, y: from_string("X"), FormulaError, "unknown alias 'X'"),
        (lambda x, y: from_string("IntCst(2)", []), ValueError, "has no arrays: name LazyTensors"),
        (lambda x, y: from_string("X-Y", ["X = Vi(3)", "Y = Vj(3)"], x), ValueError, "'X-Y' takes 2 arrays, not 1"),
        (lambda x, y: from_string("X", ["X = Vi(2)"], x), ValueError, r"array 0, has shape \(…, M, D\) with D = 2, not \(5, 3\)"),
        (lambda x, y: from_string("X", ["X = Pm(3)"], 1.5), TypeError, "stands for a NumPy array or a PyTorch tensor, not for float"),
        (lambda x, y: from_string("X", "X = Vi(3)", x), TypeError, "aliases are a list of texts, not the text"),
        (lambda x, y: from_string("X", X=Vi(x * 1j)), TypeError, "formulas in KeOps's syntax are of real numbers"),
        (lambda x, y: from_string(3), TypeError, "from_string takes a text, not int"),
        (lambda x, y: (Vi(x) - Vj(y)).to_keops(X=Vi(x + 0)), ValueError, "was not made from X"),
        (lambda x, y: (Vi(x) - Vj(y)).tril().to_keops(), ValueError, "a mask is no part of a formula"),
    ],
)
def test_errors_of_strings(make, error, message):
    with pytest.raises(error, match=message):
        make(np.ones((M, D)), np.ones((N, D)))


def test_lazy_tensors_are_hashed_by_identity(data):
    x = Vi(data[0])
    assert {x: 1}[x] == 1
