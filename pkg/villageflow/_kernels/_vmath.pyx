"""The kernel's elementary functions for Python: one number at a time, or whole arrays as the kernel does it.

The functions themselves are in `_vmath.pxd`, `_distributions.pxd` and `_philox.pxd`.  Scalar and array results have
the same bits.
"""

import numpy as np

from villageflow._kernels._allocation cimport allocation_price as vallocation_price
from villageflow._kernels._allocation cimport allocation_share as vallocation_share
from villageflow._kernels._distributions cimport (
    vbeta_probability, vbeta_quantile, vcount_probability, vcount_quantile, vnormal_probability,
    vnormal_probability_block, vnormal_quantile, vnormal_quantile_block,
)
from villageflow._kernels._philox cimport philox as philox_rounds
from villageflow._kernels._vmath cimport (
    vacos, vacos_block, vasin, vasin_block, vatan, vatan_block, vcos, vcos_block, vcosh, vcosh_block,
    vexp, vexp_block, vlog, vlog_block, vpow, vpow_block, vsin, vsin_block, vsinh, vsinh_block,
    vtan, vtan_block, vtanh, vtanh_block,
)

ctypedef void (*unary_block)(double* d, const double* a, int n) noexcept nogil


def exp(double x):
    return vexp(x)


def log(double x):
    return vlog(x)


def power(double x, double y):
    return vpow(x, y)


def sin(double x):
    return vsin(x)


def cos(double x):
    return vcos(x)


def tan(double x):
    return vtan(x)


def arcsin(double x):
    return vasin(x)


def arccos(double x):
    return vacos(x)


def arctan(double x):
    return vatan(x)


def sinh(double x):
    return vsinh(x)


def cosh(double x):
    return vcosh(x)


def tanh(double x):
    return vtanh(x)


def allocation_share(double kind, double z):
    return vallocation_share(kind, z)


def allocation_price(const double[::1] values):
    """The price for one member; `values` are what is available, then request, profile, priority, width of each party."""
    cdef int[::1] slots = np.arange(values.shape[0], dtype=np.intc)
    return vallocation_price(&values[0], 1, &slots[0], <int>values.shape[0])


def normal_probability(double z):
    return vnormal_probability(z)


def normal_quantile(double p):
    return vnormal_quantile(p)


def count_probability(double x, double a, double b):
    return vcount_probability(x, a, b)


def count_quantile(double p, double a, double b):
    return vcount_quantile(p, a, b)


def beta_probability(double x, double a, double b):
    return vbeta_probability(x, a, b)


def beta_quantile(double p, double a, double b):
    return vbeta_quantile(p, a, b)


def philox(counter, key):
    """The block of random bits at a counter.

    Parameters
    ----------
    counter : sequence of 4 int
    key : sequence of 2 int
        Words of 32 bits.

    Returns
    -------
    tuple of 4 int
    """
    cdef unsigned int[4] words = counter
    cdef unsigned int[2] keys = key
    philox_rounds(words, keys[0], keys[1])
    return words[0], words[1], words[2], words[3]


cdef unary_block find_block(str name):
    if name == "exp": return vexp_block
    if name == "log": return vlog_block
    if name == "sin": return vsin_block
    if name == "cos": return vcos_block
    if name == "tan": return vtan_block
    if name == "arcsin": return vasin_block
    if name == "arccos": return vacos_block
    if name == "arctan": return vatan_block
    if name == "sinh": return vsinh_block
    if name == "cosh": return vcosh_block
    if name == "tanh": return vtanh_block
    if name == "normal_probability": return vnormal_probability_block
    if name == "normal_quantile": return vnormal_quantile_block
    return NULL


def apply(str name, const double[::1] a, b=None, int block=256):
    """The named function of every element, computed by its block function.

    Parameters
    ----------
    name : str
        A function of this module; `power` takes `a` to the power `b`, the others take `a` alone.
    a, b : (n,) arrays of float64, contiguous
    block : int, > 0
        Elements per call of the block function. It does not change the result.

    Returns
    -------
    (n,) array of float64
    """
    cdef Py_ssize_t n = a.shape[0], start = 0
    cdef int m
    cdef unary_block run = find_block(name)
    cdef bint binary = name == "power"
    if run == NULL and not binary:
        raise ValueError(f"'{name}' is not a function of this module")
    if block < 1:
        raise ValueError(f"block is {block}; it must be at least 1")
    if binary != (b is not None):
        raise ValueError(f"'{name}' takes {'two arrays' if binary else 'one array'}")
    cdef const double[::1] exponent = b if binary else a
    if exponent.shape[0] != n:
        raise ValueError(f"a has {n} elements and b has {exponent.shape[0]}")
    result = np.empty(n)
    cdef double[::1] d = result
    with nogil:
        while start < n:
            m = <int>min(<Py_ssize_t>block, n - start)
            if binary:
                vpow_block(&d[start], &a[start], &exponent[start], m)
            else:
                run(&d[start], &a[start], m)
            start += m
    return result
