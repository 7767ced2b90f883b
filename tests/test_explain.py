"""What explanations say is checked against NumPy, LLVM's own reading of the code, and the geometry of the pictures."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor, Pm, Vi, Vj, get_num_threads, set_num_threads, where
from pairfold.codegen.peak import CHAINS, STEPS, emit_peak
from pairfold.explain import Explanation, Listing
from pairfold.fold import flip
from pairfold.formula.graph import apply, topological, var
from pairfold.formula.parse import parse
from pairfold.picture import FILLS, MOST_NODES, picture
from pairfold.reductions import REDUCTIONS
from pairfold.runtime import peak
from pairfold.runtime.compile import compile_assembly, host

SVG = "{http://www.w3.org/2000/svg}"


def points(random, count, dim, dtype="float32"):
    return random.uniform(0, 2 / dim**0.5, (count, dim)).astype(dtype)


def gauss(random, rows, columns, dim, dtype="float32"):
    return (-Vi(points(random, rows, dim, dtype)).sqdist(Vj(points(random, columns, dim, dtype)))).exp()


def line(explanation, label):
    return "\n".join(dict(explanation.lines)[label])


def boxes(svg):
    """The boxes of a picture: (left, top, right, bottom), text, fill, whether dashed."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        found.append(((x, y, x + w, y + h), text.text, rect.get("fill"), rect.get("stroke-dasharray") is not None))
    return found


# ---- what is said


def test_sizes(random):
    told = gauss(random, 1000, 600, 3).explain()
    assert isinstance(told, Explanation)
    assert told.pairs == 600_000
    assert told.title == "sum over the columns of 1000 × 600 pairs"
    assert "x0: rows, (1000, 3) float32" in line(told, "arrays")
    block = told.plan.schedule.block
    padded = -(-1000 // block) * block * 3 * 4
    assert f"once a row: x0 (3 numbers, {padded / 1000:.3g} kB in all)" in line(told, "packed")
    assert re.search(r"once a column: y1 \(3 numbers, 7.[23]\d kB in all\)", line(told, "packed"))  # to whole vectors
    assert told.scratch >= padded + 600 * 3 * 4
    assert told.plan.hoisted.body[0].dim == 1


def test_formula(random):
    x, y = points(random, 30, 3), points(random, 20, 3)
    told = (where(Vi(x).sqdist(Vj(y)) < 1, Vj(y).norm2() / 3, -2) * 0.3).explain(axis=0)
    numpy, keops = dict(told.lines)["formula"]
    assert numpy == "sum(where(sqdist(x0, y1) < 1, norm2(y1) / 3, -2) * p2, axis=0)"
    names = {"x0": var("i", 0, 3), "y1": var("j", 1, 3), "p2": var("p", 2, 1, 1)}
    (formula,) = flip(told.plan.formulas)
    assert parse(keops.removeprefix("for KeOps: "), names) is formula


def test_the_axis_is_the_users(random):
    x, y = points(random, 300, 3), points(random, 500, 2)
    K = (Vi(x).sqnorm2() * Vj(y).sqnorm2()).sqrt() + 1
    assert K.explain(axis=0).title == "sum over the rows of 300 × 500 pairs"
    for axis, when in ((1, ("once a row", "once a column")), (0, ("once a column", "once a row"))):
        told = K.explain(reduction="logsumexp", axis=axis)
        first, second = line(told, "packed").splitlines()
        assert first.startswith(when[0]) and second.startswith(when[1])
        rows, columns = (first, second) if axis == 1 else (second, first)
        assert "sum(x0**2)" in rows and "sum(y1**2)" in columns
        reduced = "columns" if axis == 1 else "rows"
        step = told.plan.schedule.columns
        assert f"{step} {reduced} a step" in line(told, "tile") and f"{step} {reduced} are rescaled" in line(told, "tile")
        fills = {text: fill for _, text, fill, _ in boxes(told.graph)}
        assert (fills["x0"], fills["y1"]) == (FILLS[1], FILLS[2])


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_reduction(name, dtype, random):
    if name == "logsumexp_weight":
        name, arguments = "logsumexp", {"weight": Vj(np.ones(70, dtype))}
    elif name == "sumsoftmaxweight":
        arguments = {"weight": Vj(np.ones((70, 2), dtype))}
    else:
        arguments = {"K": 3} if "Kmin" in name else {}
    K = gauss(random, 40, 70, 4, dtype)
    for axis in (0, 1):
        if "weight" in arguments and axis == 0:
            K, arguments = K.T, {"weight": arguments["weight"].T}
        told = K.explain(reduction=name, axis=axis, **arguments)
        assert told.title.startswith(REDUCTIONS.get(name, REDUCTIONS["sum"]).name)
        assert f"arithmetic in {dtype}" in line(told, "arrays")
        assert told.limit > 0 and told.estimate > told.limit and told.operations >= 1
        assert str(told) == repr(told) and all(len(text) <= 110 for text in str(told).splitlines())
        ET.fromstring(told._repr_html_())


def test_products_batches_and_frameworks(random):
    torch = pytest.importorskip("torch")
    x, b = points(random, 30, 3), random.normal(size=(20, 5)).astype("float32")
    told = (Vi(x) | Vj(x[:20])).explain(reduction="@", b=b)
    assert "y2: columns, (20, 5) float32" in line(told, "arrays")
    t = torch.tensor(x, requires_grad=True)
    assert "x0: rows, (30, 3) float32" in line((Vi(t) | Vj(t.detach())).explain(dim=0), "arrays")
    many = LazyTensor(np.ones((4, 30, 1, 3))) * LazyTensor(np.ones((1, 20, 3)))
    told = many.explain(axis=1)
    assert told.title == "sum over the rows of 4 × 30 × 20 pairs" and told.pairs == 2400
    assert "once a row and batch" in line(told, "packed")
    assert "p2: parameters, 0.37" in line((Vi(x).sqdist(Vj(x)) * 0.37).explain(), "arrays")


def test_complex_and_composed(random):
    """What a method computes is explained by its first fold."""
    x, y = points(random, 30, 3), points(random, 40, 3)
    K = (Vi(x) | Vj(y)).exp1j()
    told = K.explain()
    assert told.title == "sum over the columns of 30 × 40 pairs" and told.plan.hoisted.body[0].dim == 2
    assert "cos(" in line(told, "pair") and "sin(" in line(told, "pair")
    assert "of 30 × 40" in K.explain(reduction="@", b=np.ones(40) * 1j).title
    assert abs(K).explain(reduction="norm").title == told.title
    assert (Vi(x) | Vj(y)).explain(reduction="any", axis=0).title == "max over the rows of 30 × 40 pairs"
    assert np.isfinite((Vi(x) | Vj(y)).sum())  # what asks does not stay


def test_nothing_to_compute(random):
    for rows, columns in ((0, 5), (5, 0), (0, 0)):
        told = gauss(random, rows, columns, 12).explain()
        assert told.pairs == 0 and told.scratch == 0 and told.limit == 0
        assert "limit" not in dict(told.lines)


def test_packed_formulas_have_names(random):
    x, y = points(random, 30, 3), points(random, 20, 3)
    told = (Vi(x).sqnorm2().exp() * Vj(y) + Vj(y).sqnorm2() * Pm(0.3)).explain()
    assert "r0 = exp_of_rounded(sum(x0**2), 0)" in line(told, "packed")
    assert re.search(r"c\d = sum\(y1\*\*2\) \* p2", line(told, "packed"))
    assert re.fullmatch(r"\(r0 \* y1\) \+ c\d", line(told, "pair"))


def test_masks(random):
    K = gauss(random, 300, 400, 3)
    for axis in (0, 1):
        for masked, there in ((K.tril(), np.tril(np.ones((300, 400)))), (K.band(5, 7), np.tri(300, 400, 7) - np.tri(300, 400, -6))):
            told = masked.explain(reduction="logsumexp", axis=axis)
            assert there.sum() <= told.pairs < 300 * 400
            assert told.title.startswith("logsumexp") and f"of 300 × 400 pairs, of which {told.pairs} are computed" in told.title
            assert re.match(r"where .* >= p\d\) \* \(.* <= p\d\)", line(told, "pair"))
            assert told.operations > K.explain(reduction="logsumexp", axis=axis).operations
            ET.fromstring(told._repr_html_())
    masked.sum(axis=0)
    assert masked.explain(axis=0).measured.pairs == masked.explain(axis=0).pairs
    rows, columns = np.array([[0, 100], [100, 300]]), np.array([[0, 150], [150, 400]])
    told = K.blocks(rows, columns, np.eye(2, dtype=bool)).explain()
    assert told.pairs == 100 * 150 + 200 * 250 and "where" not in line(told, "pair")


# ---- squared distances


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.3, 2.0, 90.0])
def test_certificate(scale, dtype, random):
    x, y = points(random, 4096, 16, dtype), points(random, 4200, 16, dtype)
    told = (-Vi(x).sqdist(Vj(y)) * scale).exp().explain()
    centre = y[:1024].astype("float64").mean(0)
    value = scale * (((x - centre) ** 2).sum(1).max() + ((y - centre) ** 2).sum(1).max())
    said = float(re.search(r"is ([\d.e+]+) in these data", line(told, "distances"))[1])
    np.testing.assert_allclose(said, value, rtol=0.006)
    assert line(told, "distances").startswith("by inner products" if value <= 4 else "by differences")
    assert ("centre" in line(told, "packed")) == (value <= 4)
    assert ("centre" in {text for _, text, *_ in boxes(told.graph)}) == (value <= 4)


def test_distances_otherwise(random):
    x, y = points(random, 4096, 16), points(random, 4200, 16)
    distance = Vi(x).sqdist(Vj(y))
    assert "lower bound" in line(distance.explain(reduction="argKmin", K=2), "distances")
    assert "bound: " in line(distance.explain(reduction="argKmin", K=2), "pair")
    assert "central point" in line((Vi(x + 99).sqdist(Vj(y + 99))).explain(reduction="Kmin", K=2), "distances")
    assert "outside an exponential" in line((distance * (-distance).exp()).explain(), "distances")
    assert "16777216 pairs" in line(gauss(random, 300, 300, 16).explain(), "distances")
    beside = Vj(points(random, 300, 1)) - Vi(points(random, 300, 3)).sqdist(Vj(points(random, 300, 3)))
    assert "of 3 components" in line(beside.explain(reduction="logsumexp"), "distances")
    assert "there are 2" in line((distance + (Vi(y).T.sqdist(Vi(x)))).explain(), "distances")
    assert "distances" not in dict((Vi(x) | Vj(y)).explain().lines)


# ---- time


def test_measured(random):
    x, y = points(random, 90, 3), points(random, 80, 3)
    K = (Vi(x) - Vj(y)).norm2() * 1.6180339
    assert K.explain(reduction="prod").measured is None
    assert "not yet" in line(K.explain(reduction="prod"), "measured")
    K.prod(axis=1)
    told = K.explain(reduction="prod")
    assert told.measured.extent[1:] == (90, 80) and 0 < told.measured.seconds < 60
    assert "pairs/s" in line(told, "measured") and "for" not in line(told, "measured")
    fewer = ((Vi(x[:9]) - Vj(y)).norm2() * 1.6180339).explain(reduction="prod")
    assert "for 90 × 80 pairs" in line(fewer, "measured")
    share = told.limit / told.measured.seconds
    assert f"{share:.0%} of the limit" in line(told, "measured") and f"{share:.0%} of the limit" in line(fewer, "measured")


def test_limit_is_of_the_threads_used(random):
    assert gauss(random, 20, 20, 3).explain().threads == 1
    set_num_threads(3)
    try:
        told = gauss(random, 3000, 3000, 3).explain()
        assert told.threads == 3 and "on 3 threads" in line(told, "tasks")
    finally:
        set_num_threads(None)
    assert told.phases.keys() == {"pack_par", "pack_row", "pack_col", "tile", "finish"}
    assert told.estimate == sum(told.phases.values()) and max(told.phases, key=told.phases.get) == "tile"


def test_peak():
    rate = peak.instructions_a_second(1)
    assert 1e7 < rate < 1e12
    assert peak.instructions_a_second(1) == rate  # measured once
    assert peak.instructions_a_second(get_num_threads()) > 1e7
    here = host()
    assembly = compile_assembly(emit_peak(here.triple, here.features, here.vector_bits))
    if "fma" in here.features:
        assert len(re.findall(r"^\s+vfmadd\w*ps", assembly, re.M)) == CHAINS * STEPS


@pytest.mark.skipif("avx512f" not in host().features, reason="the records count instructions of AVX-512")
@pytest.mark.parametrize("dim", [3, 16])
@pytest.mark.parametrize("name", ["sum", "logsumexp", "max"])
def test_operations_are_those_of_the_machine_code(name, dim, random):
    """Vector arithmetic in the loops over the columns, as LLVM wrote them."""
    K = gauss(random, 40, 70, dim) * Vj(np.ones(70, "float32"))
    told = K.explain(reduction=name)
    task = K.explain("asm", reduction=name).partition("tile_task:")[2].partition(".cfi_endproc")[0].splitlines()
    labels = {text.rstrip(":"): k for k, text in enumerate(task) if text.startswith(".L")}
    loops = []  # first and last line
    for k, text in enumerate(task):
        jump = re.match(r"\s+j\w+\s+(\.L\w+)", text)
        if jump and labels.get(jump[1], k) < k:
            loops.append((labels[jump[1]], k))
    arithmetic = re.compile(
        r"\s+v(add|sub|mul|fm|fnm|max|min|cmp|scalef|perm|blend|xor|and|or|rnd|round|reduce|padd|psub|pcmp|psll|psra|psrl|pand|por)"
    )

    def counted(first, last):
        return sum(bool(arithmetic.match(text)) and "zmm" in text for text in task[first:last])

    schedule = told.plan.schedule
    found = []
    for first, last in loops:
        inside = [(a, b) for a, b in loops if first < a and b < last]
        inner = sum(counted(a, b) for a, b in inside)
        # A loop over the components runs dim / 4 times.
        found.append((counted(first, last) - inner + inner * dim / 4) / (schedule.rows * schedule.columns))
    assert min(abs(count / told.operations - 1) for count in found) < 0.25, (told.operations, found)


# ---- code


def test_code(random):
    K = gauss(random, 40, 70, 3)
    llvm_ir, assembly = K.explain("llvm"), K.explain("asm")
    assert isinstance(llvm_ir, Listing) and isinstance(assembly, str)
    functions = {f.name for f in llvm.parse_assembly(llvm_ir).functions}
    assert {"pack_row", "pack_col", "tile", "finish"} <= functions
    assert "tile_task:" in assembly and repr(assembly) == assembly
    assert ET.fromstring(K.explain("llvm")._repr_html_()).text == llvm_ir
    assert K.explain("llvm", axis=0) != llvm_ir or K.explain("llvm", reduction="max") != llvm_ir


# ---- bad input


@pytest.mark.parametrize("name", ["foo", "exp", "_run", "", "shape", "__matmul__", "0"])
def test_no_such_reduction(name, random):
    with pytest.raises(ValueError, match="does not reduce.*name a method that does"):
        gauss(random, 4, 5, 3).explain(reduction=name)


def test_bad_arguments(random):
    K = gauss(random, 4, 5, 3)
    with pytest.raises(ValueError, match='"llvm" or "asm", not \'ptx\''):
        K.explain("ptx")
    with pytest.raises(ValueError, match="K must lie between 1 and 5"):
        K.explain(reduction="argKmin", K=6)
    with pytest.raises(TypeError, match="explain.reduction='argKmin'. takes that method's own arguments too: missing.*'K'"):
        K.explain(reduction="argKmin")
    with pytest.raises(ValueError, match="axis must be"):
        K.explain(axis=7)
    with pytest.raises(TypeError, match="numbers alone"):
        (LazyTensor(1) + 2).explain()


# ---- pictures


def test_html_is_escaped(random):
    x, y = points(random, 30, 1)[:, 0], points(random, 20, 1)[:, 0]
    K = where(Vi(x) < Vj(y), 1, 0)
    told = K.explain()
    for html in (told._repr_html_(), K._repr_html_()):
        assert "&lt;" in html and "< " not in re.sub(r"<[^>]*>", "", html)
        tree = ET.fromstring(html)
        assert any("<" in (t.text or "") for t in tree.iter(f"{SVG}text"))


def test_picture_of_a_tensor(random):
    K = gauss(random, 30, 20, 3) * Vi(np.ones(30, "float32")).exp()
    found = {text: (fill, dashed) for _, text, fill, dashed in boxes(re.search("<svg.*</svg>", K._repr_html_())[0])}
    assert found["x0"] == (FILLS[1], True) and found["y1"] == (FILLS[2], True)
    assert found["exp(·)"] == (FILLS[1], True)  # of the rows: packed
    assert found["· - ·"] == (FILLS[3], False) and found["· * ·"] == (FILLS[3], False)
    assert found["a number a pair"][0] == "#ffffff"
    ET.fromstring((LazyTensor(1) + 2)._repr_html_())


def test_large_formulas_are_not_drawn(random):
    s = gauss(random, 30, 20, 3)
    a, b = 1, s
    for _ in range(MOST_NODES):
        a, b = b, 2 * s * b - a
    told = b.explain()
    assert told.graph is None and "too large" in told._repr_html_() and "too large" in b._repr_html_()
    assert len(str(told)) < 12000


LEAVES = [var("i", 0, 3), var("j", 1, 3), var("p", 2, 3), var("i", 3, 1), var("j", 4, 1)]
formulas = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["exp", "neg", "square", "sum"]), inner).map(lambda t: apply(*t)),
        st.tuples(st.sampled_from(["add", "mul", "maximum"]), inner, inner).map(lambda t: apply(*t)),
        st.tuples(st.just("where"), inner, inner, inner).map(lambda t: apply(*t)),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(formulas)
def test_boxes_stand_apart_and_edges_go_down(formula):
    svg = picture([formula], set(), {}, "result <&>")
    found, tree = boxes(svg), ET.fromstring(svg)
    assert len(found) == len(topological([formula])) + 1
    width, height = float(tree.get("width")), float(tree.get("height"))
    for (left, top, right, bottom), *_ in found:
        assert left >= 0 and top >= 0 and right <= width + 1 and bottom <= height + 1
    for (a, *_), (b, *_) in combinations(found, 2):
        assert a[2] <= b[0] + 0.2 or b[2] <= a[0] + 0.2 or a[3] <= b[1] or b[3] <= a[1]
    edges = 0
    for path in tree.iter(f"{SVG}path"):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
        ends = [numbers[1], *numbers[7::6]]
        assert ends == sorted(ends)
        # From the bottom of a box to the top of another.
        assert any(abs(box[3] - numbers[1]) < 0.2 and box[0] <= numbers[0] <= box[2] for box, *_ in found)
        assert any(abs(box[1] - numbers[-1]) < 0.2 and box[0] <= numbers[-2] <= box[2] for box, *_ in found)
        edges += 1
    assert edges == sum(len(set(n.args)) for n in topological([formula])) + 1
