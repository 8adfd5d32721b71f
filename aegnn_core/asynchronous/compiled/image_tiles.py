# SPDX-License-Identifier: Apache-2.0
"""Transforms of tiles of pixels for the minimal filtering of Winograd (Lavin & Gray, CVPR 2016); compiled kernels.

A convolution of 3 x 3 becomes, for each of 16 or 36 numbers into which a tile is transformed, a product of features.
"""

from __future__ import annotations

import numpy as np

from aegnn_core.machine_code import kernel
from aegnn_core.simd import REGISTER_BITS, load, multiply_add, store

__all__ = ["TILE_POINT", "gather_large_tile", "gather_small_tile", "sum_of", "transform_large", "transform_small"]

#: The scheme for large tiles multiplies polynomials at 0, these, their negatives and infinity. With these, errors are a
#: quarter of those with the usual 1 and 2, and all factors are exact.
TILE_POINT = (0.75, 1.5)
_P1, _Q1 = (np.float32(point) for point in TILE_POINT)
_P2, _Q2, _P3, _Q3 = (np.float32(point**power) for power in (2, 3) for point in TILE_POINT)
_PRODUCT, _TOTAL = np.float32(_P2 * _Q2), np.float32(_P2 + _Q2)


@kernel(error_model="numpy")
def sum_of(a, b):
    """Of two registers."""
    return multiply_add(np.float32(1), a, b)


@kernel(error_model="numpy")
def _difference(a, b):
    return multiply_add(np.float32(-1), b, a)


@kernel(error_model="numpy")
def _scaled(factor, a, b):
    return multiply_add(np.float32(factor), a, b)


@kernel(error_model="numpy")
def _spread(a, b, c, d):
    """One axis of the transform of a small tile's pixels."""
    return _difference(a, c), sum_of(b, c), _difference(c, b), _difference(b, d)


@kernel(error_model="numpy")
def _gather(a, b, c, d):
    """One axis of the transform of a small tile's sums."""
    return sum_of(sum_of(a, b), c), _difference(_difference(b, c), d)


@kernel(error_model="numpy")
def _spread_large(a, b, c, d, e, f):
    """One axis of the transform of a large tile's pixels."""
    even_q, odd_q = _scaled(-_Q2, c, e), _scaled(-_Q2, b, d)
    even_p, odd_p = _scaled(-_P2, c, e), _scaled(-_P2, b, d)
    return (
        _scaled(_PRODUCT, a, _scaled(-_TOTAL, c, e)),
        _scaled(_P1, odd_q, even_q),
        _scaled(-_P1, odd_q, even_q),
        _scaled(_Q1, odd_p, even_p),
        _scaled(-_Q1, odd_p, even_p),
        _scaled(_PRODUCT, b, _scaled(-_TOTAL, d, f)),
    )


@kernel(error_model="numpy")
def _gather_large(a, b, c, d, e, f):
    """One axis of the transform of a large tile's sums."""
    sum_p, difference_p, sum_q, difference_q = sum_of(b, c), _difference(b, c), sum_of(d, e), _difference(d, e)
    zero = _difference(a, a)
    return (
        sum_of(sum_of(a, sum_p), sum_q),
        _scaled(_P1, difference_p, _scaled(_Q1, difference_q, zero)),
        _scaled(_P2, sum_p, _scaled(_Q2, sum_q, zero)),
        _scaled(_P3, difference_p, _scaled(_Q3, difference_q, f)),
    )


@kernel(error_model="numpy")
def _load_apart(source, at, apart, like):
    return (
        load(source, at, like),
        load(source, at + apart, like),
        load(source, at + 2 * apart, like),
        load(source, at + 3 * apart, like),
    )


@kernel(error_model="numpy")
def _store_apart(target, at, apart, values):
    store(target, at, values[0])
    store(target, at + apart, values[1])
    store(target, at + 2 * apart, values[2])
    store(target, at + 3 * apart, values[3])


@kernel(error_model="numpy")
def _load_six(source, at, apart, like):
    a, b, c, d = _load_apart(source, at, apart, like)
    return a, b, c, d, load(source, at + 4 * apart, like), load(source, at + 5 * apart, like)


@kernel(error_model="numpy")
def _store_six(target, at, apart, values):
    _store_apart(target, at, apart, values[:4])
    store(target, at + 4 * apart, values[4])
    store(target, at + 5 * apart, values[5])


@kernel(error_model="numpy")
def transform_small(source, at, width, pitch, target, to, apart, like):
    """Transform 4 x 4 pixels that begin at ``source[at]``; the results lie ``apart`` from ``target[to]`` on."""
    for c in range(0, width, REGISTER_BITS // 8 // source.itemsize):
        a = _spread(*_load_apart(source, at + c, width, like))
        b = _spread(*_load_apart(source, at + c + pitch, width, like))
        d = _spread(*_load_apart(source, at + c + 2 * pitch, width, like))
        e = _spread(*_load_apart(source, at + c + 3 * pitch, width, like))
        _store_apart(target, to + c, 4 * apart, _spread(a[0], b[0], d[0], e[0]))
        _store_apart(target, to + c + apart, 4 * apart, _spread(a[1], b[1], d[1], e[1]))
        _store_apart(target, to + c + 2 * apart, 4 * apart, _spread(a[2], b[2], d[2], e[2]))
        _store_apart(target, to + c + 3 * apart, 4 * apart, _spread(a[3], b[3], d[3], e[3]))


@kernel(error_model="numpy")
def transform_large(source, at, width, pitch, target, to, apart, like):
    """Transform 6 x 6 pixels, as ``_transform_small`` does 4 x 4: at first by columns, then by rows."""
    for c in range(0, width, REGISTER_BITS // 8 // source.itemsize):
        for column in range(6):
            values = _spread_large(*_load_six(source, at + c + column * width, pitch, like))
            _store_six(target, to + c + column * apart, 6 * apart, values)
        for row in range(6):
            values = _spread_large(*_load_six(target, to + c + 6 * row * apart, apart, like))
            _store_six(target, to + c + 6 * row * apart, apart, values)


@kernel(error_model="numpy")
def gather_small_tile(sums, at, apart, constants, bias, lane, until, target, to, width, pitch, like):
    """Write the 2 x 2 pixels to which 16 sums belong, with their bias."""
    for c in range(lane, until, REGISTER_BITS // 8 // sums.itemsize):
        a = _gather(*_load_apart(sums, at + c, apart, like))
        b = _gather(*_load_apart(sums, at + c + 4 * apart, apart, like))
        d = _gather(*_load_apart(sums, at + c + 8 * apart, apart, like))
        e = _gather(*_load_apart(sums, at + c + 12 * apart, apart, like))
        own = load(constants, bias + c, like)
        left, right = _gather(a[0], b[0], d[0], e[0]), _gather(a[1], b[1], d[1], e[1])
        store(target, to + c, sum_of(left[0], own))
        store(target, to + c + width, sum_of(right[0], own))
        store(target, to + c + pitch, sum_of(left[1], own))
        store(target, to + c + pitch + width, sum_of(right[1], own))


@kernel(error_model="numpy")
def gather_large_tile(sums, at, apart, constants, bias, lane, until, target, to, width, pitch, like):
    """Write the 4 x 4 pixels to which 36 sums belong, with their bias."""
    for c in range(lane, until, REGISTER_BITS // 8 // sums.itemsize):
        for column in range(6):
            values = _gather_large(*_load_six(sums, at + c + column * apart, 6 * apart, like))
            _store_apart(sums, at + c + column * apart, 6 * apart, values)
        own = load(constants, bias + c, like)
        for row in range(4):
            values = _gather_large(*_load_six(sums, at + c + 6 * row * apart, apart, like))
            pixel = to + c + row * pitch
            store(target, pixel, sum_of(values[0], own))
            store(target, pixel + width, sum_of(values[1], own))
            store(target, pixel + 2 * width, sum_of(values[2], own))
            store(target, pixel + 3 * width, sum_of(values[3], own))
