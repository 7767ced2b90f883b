"""Differential operators against torch.func, on dense float64 data."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold.formula.differentiate import adjoint_operator, divergence, is_linear, jacobian, jvp, laplacian, trace_operator, vjp
from pairfold.formula.graph import Node, apply, const, var
from pairfold.formula.operators import concat, extract, spread, zeros
from pairfold.formula.reference import evaluate
from pairfold.reductions import Sum
from tests.helpers import compute

torch = pytest.importorskip("torch")
D = 3
X, Y, W, V, Z = var("i", 0, D), var("j", 1, D), var("p", 2, D * D), var("p", 3, 2 * D), var("j", 4, 1)
ROWS, COLUMNS = 4, 5


@pytest.fixture
def data(random):
    return [random.normal(size=(ROWS, D)), random.normal(size=(COLUMNS, D)), random.normal(size=D * D), random.normal(size=2 * D),
            random.uniform(0.5, 1.5, size=(COLUMNS, 1))]  # fmt: skip


# A formula, and the same in PyTorch as a function of x for given y, w (3, 3), v (2, 3) and z (1,).
SCALARS = {
    "gaussian": (apply("exp", -apply("sqdist", X, Y) / Z), lambda x, y, w, v, z: torch.exp(-((x - y) ** 2).sum(-1, keepdim=True) / z)),
    "norm": (apply("norm2", X * Y + 1), lambda x, y, w, v, z: (x * y + 1).norm(dim=-1, keepdim=True)),
    "quadratic": (apply("weightedsqdist", W, X, Y), lambda x, y, w, v, z: ((x - y) @ w @ (x - y))[None]),
    "component": (apply("sin", extract(X, 1, 1) * Z), lambda x, y, w, v, z: torch.sin(x[1:2] * z)),
    "network": (
        apply("sum", apply("tanh", apply("matvecmult", W, apply("tanh", apply("vecmatmult", X, W))))),
        lambda x, y, w, v, z: torch.tanh(w @ torch.tanh(x @ w)).sum(-1, keepdim=True),
    ),
    "largest": (apply("max", X * Y), lambda x, y, w, v, z: (x * y).max(-1, keepdim=True).values),
    "product": (apply("dot", X, Y) * apply("sqnorm2", X), lambda x, y, w, v, z: ((x * y).sum(-1) * (x * x).sum(-1))[None]),
}
FIELDS = {
    "elementwise": (apply("exp", X * Y) - X, lambda x, y, w, v, z: torch.exp(x * y) - x),
    "kernel": ((X - Y) * apply("exp", -apply("sqdist", X, Y)), lambda x, y, w, v, z: (x - y) * torch.exp(-((x - y) ** 2).sum())),
    "matrix": (apply("matvecmult", W, apply("square", X)), lambda x, y, w, v, z: w @ x**2),
    "vector": (apply("vecmatmult", apply("sin", X), W) * Z, lambda x, y, w, v, z: (torch.sin(x) @ w) * z),
    "shifted": (concat(extract(X, 1, 2), extract(X, 0, 1)) * X, lambda x, y, w, v, z: torch.roll(x, -1) * x),
    "shared": (apply("normalize", X) + apply("sum", X), lambda x, y, w, v, z: x / x.norm() + x.sum()),
    "crossed": (apply("cross", apply("square", X), Y), lambda x, y, w, v, z: torch.linalg.cross(x**2, y)),
    "numbers": (X * apply("arange", attrs=(D,)) + apply("arange", attrs=(D,)), lambda x, y, w, v, z: x * torch.arange(3) + torch.arange(3)),
    "spread": (spread(apply("dot", X, Y), D) + Y, lambda x, y, w, v, z: (x * y).sum() + y),
}
OTHERS = {
    "wide": (apply("tensorprod", X, apply("sin", X)), lambda x, y, w, v, z: torch.outer(x, torch.sin(x)).ravel()),
    "narrow": (apply("matvecmult", V, X * X), lambda x, y, w, v, z: v @ (x * x)),
    "independent": (Y * Z, lambda x, y, w, v, z: y * z),
}  # fmt: skip


def pairs(data, function):
    """The function of x at each pair, stacked to (M, N, …)."""
    x, y, w, v, z = map(torch.as_tensor, data)
    rows = [[function(x[i], y[j], w.reshape(D, D), v.reshape(2, D), z[j]) for j in range(COLUMNS)] for i in range(ROWS)]
    return torch.stack([torch.stack(r) for r in rows]).numpy()


def check(formula: Node, data, wanted: np.ndarray) -> None:
    wanted = wanted.reshape(ROWS, COLUMNS, -1)
    assert formula.dim == wanted.shape[-1]
    np.testing.assert_allclose(np.broadcast_to(evaluate(formula, data), wanted.shape), wanted, rtol=1e-10, atol=1e-10)
    (found,) = compute([formula], Sum(), 1, data, (ROWS, COLUMNS))
    np.testing.assert_allclose(found, wanted.sum(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCALARS | FIELDS | OTHERS)
def test_jacobian(name, data):
    formula, function = (SCALARS | FIELDS | OTHERS)[name]
    check(jacobian(formula, X), data, pairs(data, lambda x, *more: torch.func.jacrev(function)(x, *more)))


@pytest.mark.parametrize("name", SCALARS | FIELDS | OTHERS)
def test_jacobian_by_a_parameter(name, data):
    formula, function = (SCALARS | FIELDS | OTHERS)[name]
    by_w = torch.func.jacrev(function, argnums=2)
    wanted = pairs(data, lambda *a: by_w(*a).reshape(formula.dim, D * D))
    check(jacobian(formula, W), data, wanted)


@pytest.mark.parametrize("name", FIELDS)
def test_divergence(name, data):
    formula, function = FIELDS[name]
    check(divergence(formula, X), data, pairs(data, lambda x, *more: torch.func.jacrev(function)(x, *more).trace()))


@pytest.mark.parametrize("name", SCALARS)
def test_laplacian(name, data):
    formula, function = SCALARS[name]

    def wanted(x, *more):
        return torch.func.jacfwd(torch.func.jacrev(function))(x, *more)[0].trace()

    check(laplacian(formula, X), data, pairs(data, wanted))


def test_laplacian_of_each_component(data):
    formula, function = FIELDS["kernel"]
    second = torch.func.jacfwd(torch.func.jacrev(function))
    check(laplacian(formula, X), data, pairs(data, lambda *a: torch.einsum("kll->k", second(*a))))


def test_higher_orders(data):
    """The bilaplacian, and the Jacobian of a Jacobian."""
    formula, function = SCALARS["gaussian"]

    def lap(x, *more):
        return torch.func.jacfwd(torch.func.jacrev(lambda x, *more: function(x, *more)[0]))(x, *more).trace()

    def bilap(x, *more):
        return torch.func.jacfwd(torch.func.jacrev(lap))(x, *more).trace()

    check(laplacian(laplacian(formula, X), X), data, pairs(data, bilap))
    field, function = FIELDS["vector"]
    check(jacobian(jacobian(field, X), X), data, pairs(data, lambda *a: torch.func.jacfwd(torch.func.jacrev(function))(*a)))


@pytest.mark.parametrize("name", FIELDS)
def test_products_with_the_jacobian(name, data):
    """Both ways of differentiating, against the whole matrix."""
    formula, function = FIELDS[name]
    forward, backward = jvp(formula, {X: Y + 1}), vjp(formula, [X], Y - 2)[0]
    check(forward, data, pairs(data, lambda x, y, *more: torch.func.jvp(lambda x: function(x, y, *more), (x,), (y + 1,))[1]))
    check(backward, data, pairs(data, lambda x, y, *more: torch.func.vjp(lambda x: function(x, y, *more), x)[1](y - 2)[0]))


# ---- linear functions

LINEAR = {
    "matrix": (apply("matvecmult", W, X), lambda x, y, w, v, z: w @ x),
    "scaled": (2 * X - X * Y / Z, lambda x, y, w, v, z: 2 * x - x * y / z),
    "summed": (spread(apply("sum", X * Y), D) + X, lambda x, y, w, v, z: (x * y).sum() + x),
    "moved": (concat(extract(X, 1, 2), zeros(1)), lambda x, y, w, v, z: torch.stack([x[1], x[2], 0 * x[0]])),
    "chosen": (apply("where", apply("gt", Y, 0), X, -X), lambda x, y, w, v, z: torch.where(y > 0, x, -x)),
    "zero": (zeros(D), lambda x, y, w, v, z: 0 * x),
}


@pytest.mark.parametrize("name", LINEAR)
def test_trace_and_adjoint(name, data):
    formula, function = LINEAR[name]
    assert is_linear(formula, X)
    check(trace_operator(formula, X), data, pairs(data, lambda *a: torch.func.jacrev(function)(*a).trace()))
    adjoint = adjoint_operator(formula, X, Y + Z)
    check(adjoint, data, pairs(data, lambda x, y, w, v, z: torch.func.jacrev(function)(x, y, w, v, z).T @ (y + z)))


def test_trace_of_one_row(data):
    check(trace_operator(apply("dot", X, Y), X), data, pairs(data, lambda x, y, *more: y.sum()))


@pytest.mark.parametrize(
    "formula",
    [
        X + 1, X * X, apply("exp", X), apply("dot", X, X), 1 / X, X / X, apply("where", X, X, X), apply("max", X), concat(X, Y),
        apply("weightedsqnorm", W, X), Y, X + Y, apply("where", Y, X, 1), apply("square", X),
    ],
)  # fmt: skip
def test_what_is_not_linear(formula):
    assert not is_linear(formula, X)
    with pytest.raises(ValueError, match=r"is not built as a linear function of x0"):
        adjoint_operator(formula, X, const(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jacobian(X, X + Y), r"derivatives are taken by variables, not by x0 \+ y1"),
        (lambda: laplacian(X, const(1)), "derivatives are taken by variables, not by 1"),
        (lambda: divergence(Z, X), "the divergence of a vector of dimension 1 by one of dimension 3: the two must agree"),
        (lambda: trace_operator(apply("matvecmult", V, X), X), "the trace of a function from dimension 3 to dimension 2"),
        (lambda: adjoint_operator(apply("matvecmult", V, X), X, Y), "the adjoint of a function to dimension 2 applied to a vector of dim"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_operators_stay_short_in_many_dimensions():
    """The trace of a Jacobian is a formula of vectors, not of their components."""
    x, y = var("i", 0, 500), var("j", 1, 500)
    assert len(str(laplacian(apply("exp", -apply("sqdist", x, y)), x))) < 400
