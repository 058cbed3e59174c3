"""Functions inside a compiled loop, and arrays without counts of references, which it passes dozens of to each of them.

Notable: numba counts references of every array of a tuple at every call, in atomic operations that took most of the
loop's time. Who calls the loop holds the arrays until it returns, so inside of it nothing needs to be counted. Inner
functions have no way in from Python, which for so many arrays takes longer to compile than what they do.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic


def _plain(context: Any, builder: Any, of: Any, value: Any) -> Any:
    """The same value whose arrays belong to nobody."""
    null: Any = cgutils.get_null_value  # numba's own functions are not typed
    if isinstance(of, types.Array):
        array = context.make_array(of)(context, builder, value)
        array.meminfo = null(array.meminfo.type)
        array.parent = null(array.parent.type)
        return array._getvalue()
    if isinstance(of, types.BaseTuple):
        parts: Any = of
        for place, part in enumerate(parts.types):
            inner = _plain(context, builder, part, builder.extract_value(value, place))
            value = builder.insert_value(value, inner, place)
        return value
    return value


def _borrow(typing: Any, of: Any) -> Any:
    """A tuple of arrays, or of such tuples, that must not outlive its owner's."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _plain(context, builder, signature.args[0], args[0])

    return of(of), codegen


borrow: Any = intrinsic(_borrow)
_OPTIONS: Any = {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner: Any = njit(**_OPTIONS)
entry: Any = njit(cache=True)
