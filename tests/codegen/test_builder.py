"""The builder of instructions: what it computes itself, and what it does not emit again."""

from __future__ import annotations

import gc

import pytest
from llvmlite import ir

from pairfold.codegen.builder import I8, I32, I64, POINTER, Builder, Lanes, uncollected


@pytest.fixture
def b():
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [POINTER, I64]), "f")
    return Builder(function.append_basic_block("entry"))


def test_constants_are_computed(b):
    _, n = b.function.args
    assert b.mul(I64(6), I64(7)).constant == 42 and b.add(I64(6), I64(-7)).constant == -1 and b.sub(I64(6), I64(7)).constant == -1
    assert b.add(n, I64(0)) is n and b.add(I64(0), n) is n and b.sub(n, I64(0)) is n
    assert b.mul(n, I64(1)) is n and b.mul(I64(1), n) is n and b.udiv(n, I64(1)) is n
    assert b.mul(n, I64(0)).constant == 0 and b.urem(n, I64(1)).constant == 0
    assert not b.block.instructions


def test_an_address_is_computed_once_a_block(b):
    pointer, n = b.function.args
    place = b.gep(pointer, [b.add(b.mul(n, I64(3)), I64(1))], I8)
    assert b.gep(pointer, [b.add(b.mul(n, I64(3)), I64(1))], I8) is place
    assert b.gep(pointer, [I64(0)], I64) is pointer
    assert b.gep(pointer, [n], I8) is not b.gep(pointer, [n], I64)
    assert b.mul(n, I64(3)) is not b.mul(n, I64(4))
    assert b.sub(n, b.mul(n, n)) is not b.sub(b.mul(n, n), n)
    before = b.mul(n, I64(3))
    inside = b.append_basic_block("inside")  # which need not come after the first
    b.branch(inside)
    b.position_at_end(inside)
    assert b.mul(n, I64(3)) is not before


def test_what_may_not_wrap_is_another_instruction(b):
    _, n = b.function.args
    plain = b.add(n, I64(1))
    assert b.add(n, I64(1), flags=("nsw",)) is not plain and b.add(n, I64(1)) is plain


def test_lanes_of_one_number(b):
    _, n = b.function.args
    wide, narrow = Lanes(b, 32, 16), Lanes(b, 32, 8)
    assert wide.splat(n) is wide.splat(n) and narrow.splat(n).type == ir.VectorType(I64, 8)
    assert Lanes(b, 32, 1).splat(n) is n
    assert Lanes(b, 32, 1).lane_numbers(I32).constant == 0 and str(narrow.lane_numbers(I64, 2).constant[7].constant) == "9"


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(KeyError), uncollected():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
