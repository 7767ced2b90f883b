"""Derivatives through PyTorch's autograd, against dense float64 PyTorch."""

from __future__ import annotations

import mpmath
import pytest

from pairfold import LazyTensor, Pm, Vi, Vj
from pairfold.formula.graph import apply, var
from pairfold.reductions import LogSumExp, Sum
from tests.helpers import make_fold

torch = pytest.importorskip("torch")
M, N, D, E = 6, 9, 3, 2


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 0.6


def inputs():
    return [t.requires_grad_() for t in (draw(M, D), draw(N, D, seed=1), draw(N, E, seed=2), draw(D, seed=3), draw(1, seed=4))]


def symbolic(x, y, b, p, s):
    """A matrix, an array of vectors, a weight."""
    x_i, y_j = Vi(x), Vj(y)
    matrix = (-((x_i - y_j) ** 2 * Pm(p)).sum(-1) * Pm(s)).exp() + (x_i | y_j)
    return matrix, (x_i * y_j * Pm(p)).sin() + x_i * Pm(s), Vj(b)


def dense(x, y, b, p, s):
    x, y = x[:, None], y[None]
    matrix = (-((x - y) ** 2 * p).sum(-1) * s).exp() + (x * y).sum(-1)
    return matrix, (x * y * p).sin() + x * s, b[None]


def kmin(values, k, axis):
    return values.sort(axis)[0].movedim(axis, 1)[:, :k]


# name, the fold of a matrix or a vector, the dense one
REDUCTIONS = {
    "sum": (lambda f, w, a: f.sum(a), lambda f, w, a: f.sum(a)),
    "prod": (lambda f, w, a: f.prod(a), lambda f, w, a: f.prod(a)),
    "min": (lambda f, w, a: f.min(a), lambda f, w, a: f.min(a)[0]),
    "max": (lambda f, w, a: f.max(a), lambda f, w, a: f.max(a)[0]),
    "min_argmin": (lambda f, w, a: f.min_argmin(a)[0], lambda f, w, a: f.min(a)[0]),
    "max_argmax": (lambda f, w, a: f.max_argmax(a)[0], lambda f, w, a: f.max(a)[0]),
    "Kmin": (lambda f, w, a: f.Kmin(3, a), lambda f, w, a: kmin(f, 3, a)),
    "Kmin_argKmin": (lambda f, w, a: f.Kmin_argKmin(2, a)[0], lambda f, w, a: kmin(f, 2, a)),
    "logsumexp": (lambda f, w, a: f.logsumexp(a), lambda f, w, a: f.logsumexp(a)),
    "logsumexp_weight": (lambda f, w, a: f.logsumexp(a, weight=(w * w)[..., 0]), None),
    "sumsoftmaxweight": (lambda f, w, a: f.sumsoftmaxweight(w, a), None),
}


def reduced(name, values, weight, axis):
    """The dense reduction."""
    if name == "logsumexp_weight":
        square = weight[..., 0] ** 2
        if values.ndim == 3:
            square = square[..., None]
        return (values.exp() * square).sum(axis).log()
    if name == "sumsoftmaxweight":
        return (values.softmax(axis)[..., None] * weight).sum(axis)
    return REDUCTIONS[name][1](values, weight, axis)


def pick(which, parts):
    return parts[{"matrix": 0, "vector": 1}[which]], parts[2]


CASES = [(n, w) for n in REDUCTIONS for w in ("matrix", "vector") if (n, w) != ("sumsoftmaxweight", "vector")]


FOLDS = {
    "sum": lambda K: K.sum(1),
    "all": lambda K: K.sum(),
    "mean": lambda K: K.mean(0),
    "max": lambda K: K.max(1) if isinstance(K, LazyTensor) else K.max(1)[0],
    "logsumexp": lambda K: K.logsumexp(1),
    "dense": lambda K: K.dense() if isinstance(K, LazyTensor) else K,
    "diagonal": lambda K: K.diagonal(1),
    "at": lambda K: K.at(torch.tensor([0, 3]), torch.tensor([2, 2])) if isinstance(K, LazyTensor) else K[[0, 3], [2, 2]],
    "tril": lambda K: K.tril().sum(1),
}


@pytest.mark.parametrize("name", FOLDS)
def test_losses_of_absolute_values(name):
    """The derivative of abs has one of zeros that PyTorch keeps no memory for."""
    x, y = draw(M, D), draw(N, D, seed=1)

    def through(K, x):
        (first,) = torch.autograd.grad(FOLDS[name](K).abs().sum(), x, create_graph=True)
        return (first, *torch.autograd.grad(first.square().sum(), x))

    own, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = through((-((Vi(own) - Vj(y)) ** 2).sum(-1)).exp(), own)
    for ours, wanted in zip(found, through((-((other[:, None] - y) ** 2).sum(-1)).exp(), other), strict=True):
        torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("name", ["sum", "all", "mean", "dense", "diagonal", "at", "tril", "product"])
def test_results_are_changed_in_place(name):
    """As those of PyTorch's own sums: their derivatives do not look at them."""
    act = {**FOLDS, "product": lambda K: K @ torch.ones(N, dtype=torch.float64)}[name]
    x, y = draw(M, D), draw(N, D, seed=1)

    def slope(make, x):
        x = x.clone().requires_grad_()
        result = act(make(x))
        result = result if isinstance(make(x), LazyTensor) else result * 1
        result += 1
        result /= 2
        return torch.autograd.grad(result.square().sum(), x)[0]

    torch.testing.assert_close(slope(lambda x: Vi(x) | Vj(y), x), slope(lambda x: x @ y.T, x))


def test_zeros_without_memory():
    def zeros(*shape, dtype=torch.float64):
        return torch._efficientzerotensor(shape, dtype=dtype, device=y.device)

    y = draw(N, D, seed=1)
    K = (-((Vi(y) - Vj(y)) ** 2).sum(-1)).exp()
    assert torch.equal(K @ zeros(N), torch.zeros(N, dtype=torch.float64))
    assert torch.equal(K @ zeros(N, dtype=torch.complex128), torch.zeros(N, dtype=torch.complex128))
    assert torch.equal(K.solve(zeros(N), 0.1), torch.zeros(N, dtype=torch.float64))
    torch.testing.assert_close((Vi(zeros(M, D)) - Vj(y)).abs().sum(-1).sum(1), y.abs().sum().expand(M))
    torch.testing.assert_close(K.same_label(zeros(N, dtype=torch.int64), torch.zeros(N, dtype=torch.int64)).sum(1), K.sum(1))
    torch.testing.assert_close(K.at(zeros(2, dtype=torch.int64), torch.tensor([0, 1])), K.dense()[0, :2])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("name", "which"), CASES)
def test_first_and_second_derivatives(name, which, axis):
    found_in, wanted_in = inputs(), inputs()
    found = REDUCTIONS[name][0](*pick(which, symbolic(*found_in)), axis)
    wanted = reduced(name, *pick(which, dense(*wanted_in)), axis)
    torch.testing.assert_close(found, wanted)
    cotangent = draw(*wanted.shape, seed=9)
    # b takes part where there is a weight.
    sides = ((found, found_in), (wanted, wanted_in))
    grads = [torch.autograd.grad(out, given, cotangent, create_graph=True, allow_unused=True) for out, given in sides]
    total = [sum((g * draw(*g.shape, seed=20 + k)).sum() for k, g in enumerate(side) if g is not None) for side in grads]
    for got, want in zip(*grads, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)
    second = [torch.autograd.grad(t, given, allow_unused=True) for t, given in zip(total, (found_in, wanted_in), strict=True)]
    for got, want in zip(*second, strict=True):
        got = torch.zeros_like(want) if got is None and want is not None else got
        want = torch.zeros_like(got) if want is None and got is not None else want
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "Kmin", "logsumexp", "logsumexp_weight", "sumsoftmaxweight"])
def test_gradcheck(name):
    def fold(*given):
        return REDUCTIONS[name][0](*pick("matrix", symbolic(*given)), 1)

    given = [t[:3].detach().requires_grad_() for t in inputs()]
    assert torch.autograd.gradcheck(fold, given)
    assert torch.autograd.gradgradcheck(fold, given)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("width", [None, 1, 4])
def test_products(transposed, width):
    found_in, wanted_in = inputs(), inputs()
    shape = (M if transposed else N,) if width is None else (M if transposed else N, width)
    vectors = [draw(*shape, seed=8).requires_grad_() for _ in range(2)]
    found, wanted = symbolic(*found_in)[0], dense(*wanted_in)[0]
    found = (found.T if transposed else found) @ vectors[0]
    wanted = (wanted.T if transposed else wanted) @ vectors[1]
    torch.testing.assert_close(found, wanted)
    left = torch.autograd.grad((found**2).sum(), [*found_in, vectors[0]], create_graph=True, allow_unused=True)
    right = torch.autograd.grad((wanted**2).sum(), [*wanted_in, vectors[1]], create_graph=True, allow_unused=True)
    for got, want in zip(left, right, strict=True):
        torch.testing.assert_close(got, want)


def test_third_derivatives():
    results = []
    for parts in (symbolic, dense):
        given = inputs()
        value = parts(*given)[0].sum(1)
        for _ in range(3):
            (g,) = torch.autograd.grad((value**2).sum(), given[0], create_graph=True)
            value = g
        results.append(value)
    torch.testing.assert_close(*results)


def test_a_fold_of_a_fold():
    results = []
    for parts in (symbolic, dense):
        x, y, b, p, s = inputs()
        a = parts(x, y, b, p, s)[0] @ b
        again = parts(x + a @ torch.ones(E, D, dtype=torch.float64), y, b, p, s)[0].logsumexp(1)
        results.append(torch.autograd.grad(again.sum(), [x, y, b, p, s]))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("layout", ["transposed", "stepped", "expanded"])
def test_layouts(layout):
    base = {"transposed": draw(D, M), "stepped": draw(2 * M, 2 * D), "expanded": draw(1, D)}[layout].requires_grad_()
    x = {"transposed": lambda t: t.T, "stepped": lambda t: t[::2, ::2], "expanded": lambda t: t.expand(M, D)}[layout](base)
    y = draw(N, D, seed=1)
    (got,) = torch.autograd.grad(((Vi(x) - Vj(y)) ** 2).sum(-1).sin().sum(1).square().sum(), base)
    (want,) = torch.autograd.grad(((x[:, None] - y) ** 2).sum(-1).sin().sum(1).square().sum(), base)
    torch.testing.assert_close(got, want)


def test_cotangents_that_are_expanded():
    x, y = draw(M, D).requires_grad_(), draw(N, D, seed=1)
    (got,) = torch.autograd.grad((Vi(x) * Vj(y)).sum(1).sum(), x)  # the gradient of a sum has strides of 0
    torch.testing.assert_close(got, y.sum(0).expand(M, D))


def test_float32():
    x, y = draw(M, D).float().requires_grad_(), draw(N, D, seed=1).float()
    (got,) = torch.autograd.grad((-(Vi(x) - Vj(y)).sqnorm2()).exp().sum(1).sum(), x)
    assert got.dtype == torch.float32
    (want,) = torch.autograd.grad((-((x[:, None] - y) ** 2).sum(-1)).exp().sum(), x)
    torch.testing.assert_close(got, want)


# ---- where there is no derivative


def test_indices_have_no_derivative():
    x, y = draw(M, D).requires_grad_(), draw(N, D, seed=1).requires_grad_()
    matrix = (Vi(x) - Vj(y)).sqnorm2()
    for index in (matrix.argmin(1), matrix.argmax(0), matrix.argKmin(2, 1), matrix.min_argmin(1)[1], matrix.Kmin_argKmin(2, 1)[1]):
        assert index.dtype == torch.int64
        assert not index.requires_grad
    low, index = matrix.min_argmin(1)
    assert low.requires_grad
    low.sum().backward()
    assert x.grad is not None and y.grad is not None


def test_under_no_grad():
    x = draw(M, D).requires_grad_()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert not (Vi(x) * Vj(x)).sum(1).requires_grad
    assert not (Vi(x.detach()) * Vj(x.detach())).sum(1).requires_grad
    assert (Vi(x) * Vj(x)).sum(1).requires_grad


def test_inputs_that_do_not_matter():
    x, y = draw(M, D).requires_grad_(), draw(N, D, seed=1).requires_grad_()
    out = (Vi(x) + Vj(y).sign() * 2).sum(1)
    gx, gy = torch.autograd.grad(out.sum(), [x, y])
    torch.testing.assert_close(gx, torch.full_like(x, N))
    torch.testing.assert_close(gy, torch.zeros_like(y))


def test_one_tensor_in_two_places():
    x = draw(M, D).requires_grad_()
    (got,) = torch.autograd.grad((-(Vi(x) - Vj(x)).sqnorm2()).exp().sum(1).square().sum(), x)
    (want,) = torch.autograd.grad((-((x[:, None] - x) ** 2).sum(-1)).exp().sum(1).square().sum(), x)
    torch.testing.assert_close(got, want)


def test_distances_on_the_diagonal():
    """|x - x| = 0: its derivative is taken as 0, and no nan spreads."""
    x = draw(M, D).requires_grad_()
    (got,) = torch.autograd.grad((Vi(x) - Vj(x)).norm2().sum(1).sum(), x, create_graph=True)
    (want,) = torch.autograd.grad(torch.cdist(x, x).sum(), x)
    torch.testing.assert_close(got, want)
    (again,) = torch.autograd.grad((-(Vi(x) - Vj(x)).norm2()).exp().sum(1).sum(), x)
    assert again.isfinite().all()


def test_nothing_to_reduce():
    x, y = draw(M, D).requires_grad_(), draw(0, D).requires_grad_()
    for name in ("sum", "prod", "logsumexp", "min"):
        out = getattr(Vi(x) * Vj(y), name)(1)
        gx, gy = torch.autograd.grad(out.sum(), [x, y], allow_unused=True)
        assert gx is None or gx.shape == x.shape and not gx.any()
        assert gy is None or gy.shape == y.shape
    gx, gy = torch.autograd.grad((Vi(x) * Vj(y)).sum(0).sum(), [x, y])
    torch.testing.assert_close(gx, torch.zeros_like(x))


def test_ties_go_to_the_lowest():
    y = torch.zeros(N, 1, dtype=torch.float64).requires_grad_()
    x = torch.ones(2, 1, dtype=torch.float64)
    (g,) = torch.autograd.grad((Vi(x) * Vj(y)).min(1).sum(), y)
    torch.testing.assert_close(g[:, 0], torch.tensor([2.0] + [0.0] * (N - 1), dtype=torch.float64))


def derivatives(loss, variables, orders=3):
    """Those of a loss in random directions, and of these, and so on."""
    random, found = torch.Generator().manual_seed(3), []
    for _ in range(orders):
        gradients = torch.autograd.grad(loss, variables, create_graph=True)
        found += gradients
        weights = [torch.randn(g.shape, dtype=g.dtype, generator=random) for g in gradients]
        loss = sum((g * w).sum().real for g, w in zip(gradients, weights, strict=True))
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("zeros", [0, 1, 2, 3, 4])
def test_products_with_zeros(zeros, masked, dtype):
    """To the third derivative; the second component has one zero less."""
    random = torch.Generator().manual_seed(zeros)
    x, y = torch.randn(4, 2, dtype=dtype, generator=random), torch.randn(7, 2, dtype=dtype, generator=random)
    for component in (0, 1):
        y[: max(0, zeros - component), component] = -x[1, component]
    variables = [v.requires_grad_() for v in (x, y)]
    K, dense = Vi(x) + Vj(y), x[:, None] + y
    if masked:
        K, dense = K.band(2, 4), torch.where(torch.ones(4, 7).tril(4).triu(-2).bool()[..., None], dense, 1)
    for axis in (0, 1, (0, 1)):
        want = dense.flatten(0, 1).prod(0) if axis == (0, 1) else dense.prod(axis)
        losses = ((values * torch.arange(1.0, values.numel() + 1).view(values.shape)).sum().real for values in (K.prod(axis), want))
        for ours, theirs in zip(*(derivatives(loss, variables) for loss in losses), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_hessians_of_products_with_zeros():
    x = torch.tensor([0.0, 2.0, 3.0], dtype=torch.float64)
    f, g = (lambda x: Vj(x).prod(1).sum()), (lambda x: x.prod())
    torch.testing.assert_close(torch.func.hessian(f)(x), torch.func.hessian(g)(x))
    v = torch.ones_like(x)
    torch.testing.assert_close(torch.func.jvp(torch.func.grad(f), (x,), (v,)), torch.func.jvp(torch.func.grad(g), (x,), (v,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_of_sinxdivx_near_zero(dtype):
    """Where the difference of cos(x) and sin(x)/x cancels; and far away, where squares overflow."""
    x = torch.tensor([0.0, 1e-8, -1e-3, 0.3, 0.999, 1.0, -1.001, 3.0, 20.0], dtype=dtype, requires_grad=True)
    far = torch.tensor([1e30, torch.inf], dtype=dtype, requires_grad=True)
    found, beyond = Vi(x).sinxdivx().sum(1), Vi(far).sinxdivx().sum(1)[:1]
    with mpmath.workdps(60):
        for order in (1, 2, 3):
            (found,) = torch.autograd.grad(found.sum(), x, create_graph=True)
            want = [float(mpmath.diff(mpmath.sinc, mpmath.mpf(v.item()), order)) for v in x.detach()]
            torch.testing.assert_close(found.detach(), torch.tensor(want, dtype=dtype), rtol=0, atol=8 * torch.finfo(dtype).eps)
            (beyond,) = torch.autograd.grad(beyond[0], far, create_graph=True)
            assert abs(beyond[0]) <= 1.1e-30


def test_a_tensor_that_was_changed_is_noticed():
    x, y = draw(M, D).requires_grad_(), draw(N, D, seed=1)
    out = (Vi(x) * Vj(y)).sin().sum(1)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_backward_twice():
    x = draw(M, D).requires_grad_()
    out = (Vi(x) * Vj(x.detach())).sin().sum(1).sum()
    out.backward(retain_graph=True)
    first = x.grad.clone()
    out.backward()
    torch.testing.assert_close(x.grad, 2 * first)


def test_optimisers_run():
    x, y = draw(M, D).requires_grad_(), draw(N, D, seed=1)
    optimiser = torch.optim.SGD([x], lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = -(-(LazyTensor(x[:, None]) - LazyTensor(y[None])).sqnorm2()).exp().sum(1).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


# ---- one kernel an axis


def test_the_backward_of_an_axis_is_one_fold():
    x, z, y, b, p = var("i", 0, 3), var("i", 1, 3), var("j", 2, 3), var("j", 3, 2), var("p", 4, 1)
    formula = apply("exp", -apply("sqdist", x, y) * p - apply("dot", z, y)) * b
    for reduction in (Sum(), LogSumExp()):
        for axis in (0, 1):
            fold, _ = make_fold((formula,), reduction, axis)
            backward = fold.backward((0, 1, 2, 3, 4))
            assert len(backward) == 2
            targets = {k: (part.fold.axis, stop - start) for part in backward for k, start, stop in part.targets}
            assert {k: dim for k, (_, dim) in targets.items()} == {0: 3, 1: 3, 2: 3, 3: 2, 4: 1}
            assert targets[0][0] == targets[1][0] == 1
            assert targets[2][0] == targets[3][0] == 0
            assert [part.fold.axis for part in fold.backward((0, 1))] == [1]
            assert [part.fold.axis for part in fold.backward((3,))] == [0]


@pytest.mark.parametrize("name", ["sum", "logsumexp", "min", "sumsoftmaxweight", "min_argmin"])
def test_forward_derivatives(name):
    """Tangents, and forward over reverse: by torch.func, and by dual numbers."""
    torch.manual_seed(0)
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)

    def lazy(x, y):
        K = -((Vi(x) - Vj(y)) ** 2).sum(-1)
        found = K.sumsoftmaxweight(Vj(y), axis=1) if name == "sumsoftmaxweight" else getattr(K, name)(axis=1)
        return found[0] if name == "min_argmin" else found

    def dense(x, y):
        K = -((x[:, None] - y) ** 2).sum(-1)
        if name == "sumsoftmaxweight":
            return K.softmax(1) @ y
        return K.sum(1) if name == "sum" else K.logsumexp(1) if name == "logsumexp" else K.amin(1)

    tangents = torch.randn_like(x), torch.randn_like(y)
    found, expected = (torch.func.jvp(f, (x, y), tangents) for f in (lazy, dense))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    _, expected = torch.func.jvp(lambda x: dense(x, y), (x,), tangents[:1])
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangents[0])
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(lazy(dual, y)).tangent, expected)
    for of in (torch.func.jacfwd, torch.func.hessian):
        torch.testing.assert_close(of(lambda x: lazy(x, y).square().sum())(x), of(lambda x: dense(x, y).square().sum())(x))


# ---- numbers that are more than numbers, and what torch.func makes of tensors


def test_numbers_carry_tangents_and_batches():
    x, s = draw(6, 2), torch.tensor(0.7, dtype=torch.float64)
    square = (x[:, None] - x).square().sum(-1)

    def symbolic_and_dense(build):
        return lambda s: build((Vi(x) - Vj(x)).sqnorm2(), s).sum((0, 1)), lambda s: build(square, s).sum()

    for build in (lambda K, s: K * s, lambda K, s: K / s, lambda K, s: s - K, lambda K, s: (K + 1) ** s, lambda K, s: (-K / s).exp()):
        f, d = symbolic_and_dense(build)
        for got, want in zip(torch.func.jvp(f, (s,), (s.cos(),)), torch.func.jvp(d, (s,), (s.cos(),)), strict=True):
            torch.testing.assert_close(got, want)
        several = torch.stack([s, 2 * s, 3 * s])
        torch.testing.assert_close(torch.func.vmap(f)(several), torch.func.vmap(d)(several))


def test_forward_mode_within_forward_mode_is_refused():
    """PyTorch would give zeros."""
    x, y = draw(5, 2), draw(6, 2, seed=1)

    def f(x):
        return (-(Vi(x) - Vj(y)).sqnorm2()).exp().sum((0, 1))

    def d(x):
        return (-(x[:, None] - y).square().sum(-1)).exp().sum()

    from torch.func import jacfwd, jacrev

    with pytest.raises(RuntimeError, match=r"jacfwd\(jacrev"):
        jacfwd(jacfwd(f))(x)
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd), (jacrev, jacrev)):
        torch.testing.assert_close(outer(inner(f))(x), outer(inner(d))(x))


def test_masks_within_transforms():
    x, labels = draw(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    numbers, ranges = labels.numpy(), torch.tensor([[0, 6]])

    def square(x):
        return (x[:, None] - x).square().sum(-1)

    K = lambda x: (Vi(x) - Vj(x)).sqnorm2()  # noqa: E731
    of_labels = lambda x: (square(x) * (labels[:, None] == labels)).sum()  # noqa: E731
    for f, d in (
        (lambda x: K(x).same_label(labels, labels).sum(), of_labels),
        (lambda x: K(x).same_label(numbers, numbers).sum(), of_labels),
        (lambda x: K(x).tril().dense().sum(), lambda x: square(x).tril().sum()),
        (lambda x: K(x).blocks(ranges, ranges).sum(), lambda x: square(x).sum()),
    ):
        torch.testing.assert_close(torch.func.grad(f)(x), torch.func.grad(d)(x))
        torch.testing.assert_close(torch.func.hessian(f)(x), torch.func.hessian(d)(x))


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_products_of_whole_numbers_are_exact(dtype):
    a = torch.randint(4000, 5000, (300, 1), generator=torch.Generator().manual_seed(0)).to(dtype)
    P = Vi(a) * Vj(a)  # noqa: N806
    assert (P == P + 1).sum() == 0
    full = a.double() * a.double().T
    torch.testing.assert_close(P.sum(1)[:, 0].double(), full.sum(1), rtol=1e-7, atol=0)


def test_powers_of_nothing():
    x, n = torch.tensor([[0.0], [2.0]], dtype=torch.float64, requires_grad=True), torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    (got,) = torch.autograd.grad((Vi(x) ** Vj(n)).sum((0, 1)).sum(), x)
    (want,) = torch.autograd.grad((x**n.T).sum(), x)
    torch.testing.assert_close(got, want)


def test_angles_of_points_with_themselves():
    u = torch.eye(3, dtype=torch.float64, requires_grad=True)
    for function in ("acos", "asin"):
        (g,) = torch.autograd.grad(getattr((Vi(u) | Vj(u)).clamp(-1, 1), function)().sum(), u)
        assert torch.isfinite(g).all() and (g != 0).any()
