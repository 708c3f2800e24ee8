"""Two inner loops of convolutions, in vectors of :data:`LANES` float32 that stay in registers.

They are functions of addresses, to be called from code that numba compiles. A loop of plain numba leaves its sums in
memory and reaches a fifth of the speed.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Floats of a vector: one register with AVX, two with SSE or NEON.
LANES = 8
_F32, _I64 = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)
_BYTES = 4 * LANES


def _number(value: int) -> Any:
    return ir.Constant(_I64, value)


class _Code:
    """Writes instructions on vectors."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        signature = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fma.v{LANES}f32"
        self._fma = cgutils.get_or_insert_function(builder.module, signature, name)

    def load(self, address: Any, offset: int = 0, kind: Any = _VECTOR) -> Any:
        place = self.builder.add(address, _number(offset))
        value = self.builder.load(self.builder.inttoptr(place, kind.as_pointer()))
        value.align = 4
        return value

    def store(self, value: Any, address: Any, offset: int = 0) -> None:
        place = self.builder.add(address, _number(offset))
        self.builder.store(value, self.builder.inttoptr(place, _VECTOR.as_pointer())).align = 4

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.call(self._fma, [a, b, c])

    def everywhere(self, value: Any) -> Any:
        """A vector of one value."""
        none = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(none, value, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, none, mask)

    def activated(self, value: Any, slope: Any) -> Any:
        """The value where it is positive, otherwise times ``slope``."""
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        positive = self.builder.fcmp_ordered(">", value, zero)
        return self.builder.select(positive, value, self.builder.fmul(value, slope))

    def loop(self, count: Any, values: list[Any], step: Any) -> list[Any]:
        """``values = step(i, values)`` for i from 0 to ``count`` (at least 1)."""
        builder = self.builder
        before, body, after = builder.block, *(builder.append_basic_block() for _ in range(2))
        builder.branch(body)
        builder.position_at_end(body)
        counter = builder.phi(_I64)
        counter.add_incoming(_number(0), before)
        carried = [builder.phi(value.type) for value in values]
        for phi, value in zip(carried, values, strict=True):
            phi.add_incoming(value, before)
        result = step(counter, carried)
        following = builder.add(counter, _number(1))
        for phi, value in zip([counter, *carried], [following, *result], strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        builder.position_at_end(after)
        return result


def tile(pixels: int, vectors: int) -> Any:
    """The function of a convolution for some neighbouring pixels and ``vectors`` × :data:`LANES` output channels.

    ``f(source, pixel, length, taps, tap, weights, row, bias, added, added_pixel, slopes, out, out_pixel)``: all are
    addresses of float32 or distances in bytes, but ``length`` and ``taps`` are counts. For each pixel: ``bias``, plus
    the sum over taps and ``length`` of source times weights, plus ``added`` unless that is 0; negative values times
    ``slopes``.
    """

    @intrinsic
    def function(  # type: ignore[no-untyped-def]
        context,
        source,
        pixel,
        length,
        taps,
        tap,
        weights,
        row,
        bias,
        added,
        added_pixel,
        slopes,
        out,
        out_pixel,
    ):
        return types.void(*[types.int64] * 13), write

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (source, pixel, length, taps, tap, weights, row, bias, added, added_pixel, slopes, out, out_pixel) = (
            args
        )
        code = _Code(builder)

        def at(base: Any, index: Any, distance: Any) -> Any:
            return builder.add(base, builder.mul(index, distance))

        def product(start: Any) -> Any:
            def step(i: Any, values: list[Any]) -> list[Any]:
                place, sums = values[0], values[1:]
                factors = [code.load(place, _BYTES * j) for j in range(vectors)]
                result = []
                for p in range(pixels):
                    address = builder.add(at(start, _number(p), pixel), builder.mul(i, _number(4)))
                    value = code.everywhere(code.load(address, kind=_F32))
                    result += [code.fma(value, factors[j], sums[p * vectors + j]) for j in range(vectors)]
                return [builder.add(place, row), *result]

            return step

        def one_tap(number: Any, values: list[Any]) -> list[Any]:
            return code.loop(length, values, product(at(source, number, tap)))

        first = [code.load(bias, _BYTES * j) for j in range(vectors)] * pixels
        sums = code.loop(taps, [weights, *first], one_tap)[1:]
        plain, adding, end = builder.block, *(builder.append_basic_block() for _ in range(2))
        builder.cbranch(builder.icmp_signed("!=", added, _number(0)), adding, end)
        builder.position_at_end(adding)
        more = [
            builder.fadd(sums[p * vectors + j], code.load(at(added, _number(p), added_pixel), _BYTES * j))
            for p in range(pixels)
            for j in range(vectors)
        ]
        builder.branch(end)
        builder.position_at_end(end)
        totals = []
        for without, with_added in zip(sums, more, strict=True):
            totals.append(builder.phi(_VECTOR))
            totals[-1].add_incoming(without, plain)
            totals[-1].add_incoming(with_added, adding)
        slope = [code.load(slopes, _BYTES * j) for j in range(vectors)]
        for number, total in enumerate(totals):
            p, j = divmod(number, vectors)
            code.store(code.activated(total, slope[j]), at(out, _number(p), out_pixel), _BYTES * j)
        return context.get_dummy_value()

    return function


def depthwise(pixels: int, stride: int) -> Any:
    """The function of a depthwise 3×3 convolution for ``count`` times ``pixels`` neighbouring pixels of one line,
    :data:`LANES` channels.

    ``f(source, line, channels, weights, bias, slopes, out, count)``: ``source`` is the address of the top left value,
    ``line`` and ``channels`` are the distances in bytes of lines and of pixels; weights of taps and output pixels are
    ``channels`` apart too.
    """

    @intrinsic
    def function(context, source, line, channels, weights, bias, slopes, out, count):  # type: ignore[no-untyped-def]
        return types.void(*[types.int64] * 8), write

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, line, channels, weights, bias, slopes, out, count = args
        code = _Code(builder)
        distances = [builder.mul(channels, _number(i)) for i in range(max(9, pixels * stride + 2))]
        factors = [code.load(builder.add(weights, distances[i])) for i in range(9)]
        start, slope = code.load(bias), code.load(slopes)

        def step(_: Any, values: list[Any]) -> list[Any]:
            top, to = values
            sums = [start] * pixels
            for y in range(3):
                across = builder.add(top, builder.mul(line, _number(y)))
                for column in range((pixels - 1) * stride + 3):
                    value = code.load(builder.add(across, distances[column]))
                    for p in range(pixels):
                        if 0 <= column - p * stride < 3:
                            sums[p] = code.fma(value, factors[3 * y + column - p * stride], sums[p])
            for p in range(pixels):
                code.store(code.activated(sums[p], slope), builder.add(to, distances[p]))
            forward = builder.mul(channels, _number(pixels * stride))
            return [builder.add(top, forward), builder.add(to, builder.mul(channels, _number(pixels)))]

        code.loop(count, [source, out], step)
        return context.get_dummy_value()

    return function


@intrinsic
def largest(context, source, line, channels, out, count):  # type: ignore[no-untyped-def]
    """The maximum of squares of 2×2 pixels for ``count`` pixels of one line, :data:`LANES` channels; addresses and
    distances as of :func:`depthwise`."""
    return types.void(*[types.int64] * 5), _write_largest


def _write_largest(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    source, line, channels, out, count = args
    code = _Code(builder)

    def larger(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    def step(_: Any, values: list[Any]) -> list[Any]:
        top, to = values
        below = builder.add(top, line)
        four = [code.load(builder.add(at, right)) for at in (top, below) for right in (_number(0), channels)]
        code.store(larger(larger(four[0], four[1]), larger(four[2], four[3])), to)
        return [builder.add(top, builder.mul(channels, _number(2))), builder.add(to, channels)]

    code.loop(count, [source, out], step)
    return context.get_dummy_value()
