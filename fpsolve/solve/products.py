"""Matrix products by BLAS from inside compiled loops."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import scipy.linalg.cython_blas
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

# SciPy's own BLAS. An address is passed to compiled loops as a number, so that they can be kept on disk.
DGEMM: int = get_cython_function_address("scipy.linalg.cython_blas", "dgemm")


@intrinsic
def add_product(context, dgemm, transposed, rows, columns, inner, a, a_row, b, b_row, beta, c, c_row):  # type: ignore[no-untyped-def]
    """C = beta C + A B, or A^T B where `transposed` is 1, for matrices stored row by row.

    dgemm: address of BLAS's routine. rows, columns: of C; inner: columns of A (rows, where transposed).
    a, b, c: addresses of the first entries; a_row, b_row, c_row: distance of rows, in entries.
    """
    whole, real = types.int64, types.float64
    signature = types.void(whole, whole, whole, whole, whole, whole, whole, whole, whole, real, whole, whole)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dgemm, transposed, rows, columns, inner, a, a_row, b, b_row, beta, c, c_row = arguments
        character, short, double = ir.IntType(8), ir.IntType(32), ir.DoubleType()

        def reference(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, value)

        def number(value: Any) -> Any:
            return reference(builder.trunc(value, short))

        def matrix(address: Any) -> Any:
            return builder.inttoptr(address, double.as_pointer())

        # Stored by columns, as BLAS has it, the same numbers are the transposed matrices: C^T = B^T A^T.
        plain = ir.Constant(character, ord("N"))
        turned = builder.select(
            builder.icmp_signed("!=", transposed, ir.Constant(transposed.type, 0)),
            ir.Constant(character, ord("T")),
            plain,
        )
        values = [
            *(reference(plain), reference(turned), number(columns), number(rows), number(inner)),
            *(reference(ir.Constant(double, 1.0)), matrix(b), number(b_row), matrix(a), number(a_row)),
            *(reference(beta), matrix(c), number(c_row)),
        ]
        routine = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(dgemm, routine.as_pointer()), values)
        return context.get_dummy_value()

    return signature, generate


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep SciPy's BLAS to the thread that calls it for a while, where it is the one that SciPy brings along."""
    library = ctypes.CDLL(scipy.linalg.cython_blas.__file__)
    if not hasattr(library, "scipy_openblas_set_num_threads"):
        yield
        return
    before = library.scipy_openblas_get_num_threads()
    library.scipy_openblas_set_num_threads(1)
    try:
        yield
    finally:
        library.scipy_openblas_set_num_threads(before)
