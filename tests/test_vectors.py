"""Methods on the vectors of pairs, and differential operators, against dense NumPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.interpolate
import scipy.special

from pairfold import LazyTensor, Pm, Vi, Vj, from_string

torch = pytest.importorskip("torch")
M, N, D = 6, 5, 3
RNG = np.random.default_rng(1)
X, Y, Z = RNG.random((M, D)), RNG.random((N, D)), RNG.random((N, 2))
XD, YD, ZD = X[:, None], Y[None], Z[None]
S = RNG.random(D * D)


def check(lazy, full):
    full = np.broadcast_to(full, (M, N, *full.shape[2:]))
    assert lazy.shape[2:] == full.shape[2:]
    np.testing.assert_allclose(
        (lazy * (Vi(np.ones((M, 1))).elem(0) * Vj(np.ones((N, 1))).elem(0))).sum(1), full.sum(1), rtol=1e-12, atol=1e-12
    )


def test_vectors():
    x, y, z = Vi(X), Vj(Y), Vj(Z)
    outer = (XD[..., :, None] * YD[..., None, :]).reshape(M, N, -1)
    check(x.tensorprod(y), outer)
    check(x.tensorprod(y).matvecmult(y), np.einsum("mnkl,mnl->mnk", outer.reshape(M, N, D, D), np.broadcast_to(YD, (M, N, D))))
    check(y.vecmatmult(x.tensorprod(z)), np.einsum("mnk,mnkl->mnl", np.broadcast_to(YD, (M, N, D)), XD[..., :, None] * ZD[..., None, :]))
    check(x.difference_matrix(z), (XD[..., :, None] - ZD[..., None, :]).reshape(M, N, -1))
    check(x.cross(y), np.cross(XD, YD))
    check(x.weightedsqnorm(Pm(S)), np.einsum("mnk,kl,mnl->mn", XD, S.reshape(D, D), XD))
    check((x - y).weightedsqnorm(Pm(S[:3])), ((XD - YD) ** 2 * S[:3]).sum(-1))
    check(x.weightedsqdist(y, Pm(S)), np.einsum("mnk,kl,mnl->mn", XD - YD, S.reshape(D, D), XD - YD))
    check((x * y).extractT(1, 6), np.concatenate([np.zeros((M, N, 1)), XD * YD, np.zeros((M, N, 2))], -1))
    check((x | y).elemT(2, 4), (XD * YD).sum(-1)[..., None] * np.eye(4)[2])
    check(x.keops_tensordot(y.tensorprod(z), (3,), (3, 2), (0,), (0,)), (XD * YD).sum(-1)[..., None] * ZD)
    check(x.keops_kron(z, (3,), (2,)), (XD[..., :, None] * ZD[..., None, :]).reshape(M, N, -1))
    labels = RNG.integers(0, 4, M)
    check(Vi(labels).one_hot(4), np.eye(4)[labels][:, None])
    knots = np.array([0.0, 0.1, 0.4, 0.5, 0.9, 1.1, 1.3])
    at = RNG.uniform(0.4, 0.5, M)
    check(Pm(knots).bspline(Vi(at), 2), scipy.interpolate.BSpline.design_matrix(at, knots, 2).toarray()[:, None])
    check((x * 3).lgamma(), scipy.special.gammaln(XD * 3))
    check((x * 3).digamma(), scipy.special.digamma(XD * 3))
    check((x - y).argmax(-1), (XD - YD).argmax(-1))


def test_softdtw():
    def warp(a, b, gamma):
        cost = np.full((4, 3), np.inf)
        cost[0, 0] = 0
        for r in range(1, 4):
            for c in range(1, 3):
                ways = np.array([cost[r - 1, c - 1], cost[r - 1, c], cost[r, c - 1]])
                cost[r, c] = (a[r - 1] - b[c - 1]) ** 2 - gamma * scipy.special.logsumexp(-ways / gamma)
        return cost[3, 2]

    want = np.array([[warp(a, b, 0.3) for b in Z] for a in X])
    np.testing.assert_allclose(Vi(X).softdtw_sqdist(Vj(Z), 0.3).sum(1), want.sum(1), rtol=1e-12)


def test_differential_operators():
    x, y = Vi(X), Vj(Y)
    field = (x * y).sin() * (x | y)
    xt, yt = torch.tensor(X), torch.tensor(Y)

    def f(a, b):
        return (a * b).sin() * (a * b).sum()

    jacobians = torch.stack([torch.stack([torch.func.jacrev(f)(a, b) for b in yt]) for a in xt]).numpy()
    check(field.grad_matrix(x), jacobians.reshape(M, N, -1))
    check(field.divergence(x), np.trace(jacobians, axis1=2, axis2=3))
    hessians = torch.stack([torch.stack([torch.func.hessian(lambda a, b: f(a, b).sum())(a, b) for b in yt]) for a in xt]).numpy()
    check(field.sum(-1).laplacian(x), np.trace(hessians, axis1=2, axis2=3))
    linear = Pm(S).matvecmult(x)
    check(linear.trace_operator(x), np.broadcast_to(np.trace(S.reshape(D, D)), (M, N)))
    check(linear.adjoint_operator(x, y), np.broadcast_to(YD @ S.reshape(D, D), (M, N, D)))


def test_strings():
    K = from_string("Exp(-G*SqDist(X,Y)) * B", X=Vi(X), Y=Vj(Y), B=Vj(Z), G=0.4)
    check(K, np.exp(-0.4 * ((XD - YD) ** 2).sum(-1, keepdims=True)) * ZD)
    text = K.to_keops()
    for written, name in (("Var(0,3,0)", "X"), ("Var(1,3,1)", "Y"), ("Var(2,2,1)", "B"), ("Var(3,1,2)", "G")):
        text = text.replace(written, name)
    assert from_string(text, X=Vi(X), Y=Vj(Y), B=Vj(Z), G=0.4).formula is K.formula
    with pytest.raises(ValueError, match="did you mean 'Exp'"):
        from_string("Epx(X)", X=Vi(X))
    with pytest.raises(ValueError, match="no arrays"):
        from_string("Exp(2)")


@pytest.mark.parametrize(
    ("act", "kind", "part"),
    [
        (lambda: Vi(X).matvecmult(Vj(Z)), ValueError, "2"),
        (lambda: Vi(X).one_hot(3), ValueError, "one number, not 3"),
        (lambda: Vi(X).elem(0).one_hot(2.5), TypeError, "2.5"),
        (lambda: Vi(X).extractT(2, 4), ValueError, "does not fit"),
        (lambda: Vi(X).keops_tensordot(Vj(Y), (3,), (3,), (0,), (1,)), ValueError, "not different axes"),
        (lambda: Vi(X).divergence(Vj(Y)), ValueError, "was not made from"),
        (lambda: LazyTensor(X[:, None]).cross(Vj(Z)), ValueError, "3"),
    ],
)
def test_messages(act, kind, part):
    with pytest.raises(kind) as caught:
        act()
    assert part in str(caught.value)
