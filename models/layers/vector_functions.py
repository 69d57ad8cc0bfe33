"""Exponential, sigmoid and tanh of vectors in single precision, for machine code (see ``layers/native.py``).

The polynomials are those of Cephes (Moshier 1992, ``expf`` and ``tanhf``). Errors stay below 3 units in the
last place, or 1e-38 where a result is smaller than that.
"""

from typing import Any

from models.layers.native import Body

_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)

_LEAST, _MOST = -87.3, 88.3
"""Beyond these the exponential is no normal number."""

_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
"""Their sum is ln 2; the first has few digits, so that its multiples are exact."""


def exp(body: Body, x: Any) -> Any:
    """``exp(x)``: with n the nearest integer to x / ln 2, a polynomial of x - n ln 2 times 2 to the n."""
    x = body.no_less(body.no_more(x, body.constant(_MOST)), body.constant(_LEAST))
    n = body.nearest(body.ir.fmul(x, body.constant(1.4426950408889634)))
    rest = body.multiply_add(n, body.constant(-_LN2_HIGH), x)
    rest = body.multiply_add(n, body.constant(-_LN2_LOW), rest)
    square = body.ir.fmul(rest, rest)
    y = body.multiply_add(_polynomial(body, _EXP, rest), square, body.ir.fadd(rest, body.constant(1.0)))
    return body.ir.fmul(y, body.power_of_two(n))


def sigmoid(body: Body, x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    one = body.constant(1.0)
    return body.ir.fdiv(one, body.ir.fadd(one, exp(body, body.ir.fsub(body.zero(), x))))


def tanh(body: Body, x: Any) -> Any:
    """``1 - 2 / (1 + exp(2 x))``; where that loses digits, below 0.625, an odd polynomial."""
    one, two = body.constant(1.0), body.constant(2.0)
    large = body.ir.fsub(one, body.ir.fdiv(two, body.ir.fadd(one, exp(body, body.ir.fmul(x, two)))))
    square = body.ir.fmul(x, x)
    small = body.multiply_add(body.ir.fmul(_polynomial(body, _TANH, square), square), x, x)
    is_small = body.ir.fcmp_ordered("<", square, body.constant(0.625**2))
    return body.ir.select(is_small, small, large)


def _polynomial(body: Body, coefficients: tuple[float, ...], x: Any) -> Any:
    """Horner's rule, the highest power first."""
    total = body.constant(coefficients[0])
    for coefficient in coefficients[1:]:
        total = body.multiply_add(total, x, body.constant(coefficient))
    return total
