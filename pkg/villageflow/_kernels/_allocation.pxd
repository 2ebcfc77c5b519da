# Allocation of what is available among parties by priority: the share of a profile above a price, and the price at
# which all shares together take what is available. The profiles are Vensim's: 1 rectangular, 2 triangular, 3 normal,
# 4 exponential; `z` is the distance of the price from the party's priority in widths.

from libc.math cimport INFINITY, NAN

from villageflow._kernels._vmath cimport vexp

cdef enum:
    SERIES = 60     # terms of the series below 2.5, far more than a double needs
    FRACTION = 60   # levels of the continued fraction from there on
    HALVINGS = 2200 # more than the doubles between any two can be halved


cdef inline double complementary_error(double x) noexcept nogil:
    """erfc(x), to 1e-15 of its value where x < 2.5 allows it, else to 1e-15 of 1."""
    cdef double a = -x if x < 0.0 else x
    cdef double term, total, result
    cdef int k
    if not a < 27.0:
        result = 0.0 if a == a else NAN
    elif a < 2.5:
        term = a
        total = a
        for k in range(1, SERIES):
            term = term * (2.0 * a * a) / (2.0 * k + 1.0)
            total = total + term
        result = 1.0 - 1.1283791670955126 * vexp(-a * a) * total
    else:
        total = a
        for k in range(FRACTION, 0, -1):
            total = a + 0.5 * k / total
        result = 0.56418958354775629 * vexp(-a * a) / total
    return 2.0 - result if x < 0.0 else result


cdef inline double allocation_share(double kind, double z) noexcept nogil:
    """Share of its request that a party gets when the price is `z` widths above its priority; NaN for other profiles."""
    if z != z:
        return NAN
    if kind == 1.0:
        return 1.0 if z <= -0.5 else (0.0 if z >= 0.5 else 0.5 - z)
    if kind == 2.0:
        if z <= -0.5:
            return 1.0
        if z < 0.0:
            return 1.0 - 2.0 * (z + 0.5) * (z + 0.5)
        return 2.0 * (0.5 - z) * (0.5 - z) if z < 0.5 else 0.0
    if kind == 3.0:
        return 0.5 * complementary_error(z * 0.70710678118654757)
    if kind == 4.0:
        return 1.0 - 0.5 * vexp(z) if z < 0.0 else 0.5 * vexp(-z)
    return NAN


cdef inline double profile_reach(double kind) noexcept nogil:
    """Widths from its middle at which a profile is 0 or 1 to the last bit."""
    return 0.5 if kind <= 2.0 else (8.5 if kind == 3.0 else 37.0)


cdef inline double allocation_price(const double* lane, Py_ssize_t stride, const int* slots,
                                    int n_slots) noexcept nogil:
    """The lowest price at which the parties do not take more than is available.

    `slots` are the registers, `stride` apart, of what is available and of request, profile, priority and width of each
    party. -inf where there is enough for all, inf where there is nothing; NaN for a width that is not positive, a
    profile that is not known or a NaN.
    """
    cdef int i, k, n_parties = (n_slots - 1) // 4
    cdef double available = lane[slots[0] * stride]
    cdef double total = 0.0, low = INFINITY, high = -INFINITY, middle, taken, request, kind, priority, width
    for i in range(n_parties):
        request = lane[slots[4 * i + 1] * stride]
        kind = lane[slots[4 * i + 2] * stride]
        priority = lane[slots[4 * i + 3] * stride]
        width = lane[slots[4 * i + 4] * stride]
        if not (request >= 0.0 and width > 0.0 and priority == priority):
            return NAN
        if not (kind == 1.0 or kind == 2.0 or kind == 3.0 or kind == 4.0):
            return NAN
        if request > 0.0:
            total = total + request
            if priority - profile_reach(kind) * width < low:
                low = priority - profile_reach(kind) * width
            if priority + profile_reach(kind) * width > high:
                high = priority + profile_reach(kind) * width
    if available != available:
        return NAN
    if available >= total:
        return -INFINITY
    if available <= 0.0:
        return INFINITY
    for k in range(HALVINGS):
        middle = 0.5 * low + 0.5 * high
        if not (low < middle and middle < high):
            break
        taken = 0.0
        for i in range(n_parties):
            request = lane[slots[4 * i + 1] * stride]
            if request > 0.0:
                taken = taken + request * allocation_share(
                    lane[slots[4 * i + 2] * stride], (middle - lane[slots[4 * i + 3] * stride]) / lane[slots[4 * i + 4] * stride])
        if taken > available:
            low = middle
        else:
            high = middle
    return high
