"""Numbers as arrays store them, to and from the lanes: any type that a user's arrays may have, converted in pack and finish alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from .builder import I8, I32, Value
from .mathlib import Maths

I16 = ir.IntType(16)


class Storage(NamedTuple):
    """How a type lies in memory, and how lanes of it become floating-point numbers of their own width."""

    type: ir.Type
    to_real: Callable[[Maths, Value], Value]


def _as_is(m: Maths, value: Value) -> Value:
    return value


def _signed(m: Maths, value: Value) -> Value:
    return m.builder.sitofp(value, m.real)


def _unsigned(m: Maths, value: Value) -> Value:
    return m.builder.uitofp(value, m.real)


def _splat(m: Maths, number: int) -> Value:
    return m.splat(I32(number))


def _from_half(m: Maths, value: Value) -> Value:
    """By integers, since not all processors convert: shifted into place a half is 2⁻¹¹² of its value, subnormal or not."""
    b, single = m.builder, m.lanes(ir.FloatType())
    bits = b.zext(value, m.lanes(I32))
    magnitude = b.shl(b.and_(bits, _splat(m, 0x7FFF)), _splat(m, 13))
    scaled = b.bitcast(b.fmul(b.bitcast(magnitude, single), m.splat(ir.FloatType()(2.0**112))), m.lanes(I32))
    finite = b.icmp_unsigned("<", magnitude, _splat(m, 0x7C00 << 13))
    number = b.select(finite, scaled, b.or_(magnitude, _splat(m, 0x7F800000)))
    return b.bitcast(b.or_(number, b.shl(b.and_(bits, _splat(m, 0x8000)), _splat(m, 16))), single)


def _to_half(m: Maths, value: Value) -> Value:
    """float32 to the nearest half, ties to even."""
    b = m.builder
    bits = b.bitcast(value, m.lanes(I32))
    magnitude = b.and_(bits, _splat(m, 0x7FFFFFFF))
    odd = b.and_(b.lshr(magnitude, _splat(m, 13)), _splat(m, 1))
    normal = b.sub(b.lshr(b.add(magnitude, b.add(odd, _splat(m, 0xFFF))), _splat(m, 13)), _splat(m, 112 << 10))
    # Beside 0.5 a float32 has the spacing of subnormal halves, so that the addition rounds.
    half = ir.FloatType()(0.5)
    beside = b.fadd(b.bitcast(magnitude, m.lanes(ir.FloatType())), m.splat(half))
    subnormal = b.sub(b.bitcast(beside, m.lanes(I32)), _splat(m, 0x3F000000))
    number = b.select(b.icmp_unsigned("<", magnitude, _splat(m, 0x38800000)), subnormal, normal)
    huge = b.select(b.icmp_unsigned(">", magnitude, _splat(m, 0x7F800000)), _splat(m, 0x7E00), _splat(m, 0x7C00))
    number = b.select(b.icmp_unsigned("<", magnitude, _splat(m, 0x47800000)), number, huge)
    sign = b.lshr(b.and_(bits, _splat(m, 0x80000000)), _splat(m, 16))
    return b.trunc(b.or_(number, sign), m.lanes(I16))


def _from_bfloat16(m: Maths, value: Value) -> Value:
    b = m.builder
    return b.bitcast(b.shl(b.zext(value, m.lanes(I32)), _splat(m, 16)), m.lanes(ir.FloatType()))


def _to_bfloat16(m: Maths, value: Value) -> Value:
    """float32 to the nearest bfloat16, ties to even."""
    b = m.builder
    bits = b.bitcast(value, m.lanes(I32))
    odd = b.and_(b.lshr(bits, _splat(m, 16)), _splat(m, 1))
    rounded = b.add(bits, b.add(odd, _splat(m, 0x7FFF)))
    number = b.fcmp_unordered("uno", value, value)
    return b.trunc(b.lshr(b.select(number, _splat(m, 0x7FC00000), rounded), _splat(m, 16)), m.lanes(I16))


STORAGE: dict[str, Storage] = {
    "float16": Storage(I16, _from_half),
    "bfloat16": Storage(I16, _from_bfloat16),
    "float32": Storage(ir.FloatType(), _as_is),
    "float64": Storage(ir.DoubleType(), _as_is),
    **{f"int{bits}": Storage(ir.IntType(bits), _signed) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": Storage(ir.IntType(bits), _unsigned) for bits in (8, 16, 32, 64)},
    "bool": Storage(I8, _unsigned),
}

BYTES = {name: int("".join(filter(str.isdigit, name)) or 8) // 8 for name in STORAGE}


def load(m: Maths, stored: str, addresses: Sequence[Value]) -> Value:
    """Numbers of a stored type as real lanes: one from each address, or one for all lanes from a single address."""
    b, storage = m.builder, STORAGE[stored]
    if len(addresses) == 1:
        value = m.splat(b.load(addresses[0], typ=storage.type))
    else:
        value = ir.Constant(m.lanes(storage.type), ir.Undefined)
        for k, address in enumerate(addresses):
            value = b.insert_element(value, b.load(address, typ=storage.type), I32(k))
    return _resized(m, storage.to_real(m, value), m.scalar)


def stored(m: Maths, value: Value, type: str) -> Value:
    """Real lanes as numbers of a stored floating-point type."""
    if type in ("float16", "bfloat16"):
        single = _resized(m, value, ir.FloatType())
        return (_to_half if type == "float16" else _to_bfloat16)(m, single)
    return _resized(m, value, STORAGE[type].type)


def _resized(m: Maths, value: Value, scalar: ir.Type) -> Value:
    """Floating-point lanes in another precision."""
    lanes = m.lanes(scalar)
    if value.type == lanes:
        return value
    return m.builder.fpext(value, lanes) if scalar == ir.DoubleType() else m.builder.fptrunc(value, lanes)
