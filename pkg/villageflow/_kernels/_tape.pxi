"""The tape over one block of members.

Layers: one function for each operation over a block -> `execute`, which runs a segment -> `run`, the time loop
-> `run_block`, which only unpacks arrays and releases the interpreter lock. Registers are rows of `n` doubles, the
member is the fast axis, so that every operation is a loop the compiler turns into vector instructions. One member
alone has registers of one double: there an operation over `count` neighbouring registers is one such loop. A program
is proved valid when it is built (`program.Program`), so nothing is checked here.

Bits: no contraction, no fast-math, no library function that is not exactly rounded; every member's arithmetic is the
same whatever block it is in. MIN and MAX return the second operand when both are equal and pass on what is not a
number; a comparison or a condition on what is not a number is not a number.

This text is built once for each instruction set, from ``_tape_v2.pyx`` and its siblings.
"""

from libc.math cimport INFINITY, NAN, fabs, floor, fmod, isfinite, sqrt, trunc

from villageflow._kernels._allocation cimport allocation_price, allocation_share
from villageflow._kernels._distributions cimport (
    vbeta_probability, vbeta_quantile, vcount_probability, vcount_quantile, vnormal_probability_block,
    vnormal_quantile_block,
)
from villageflow._kernels._philox cimport philox_block
from villageflow._kernels._vmath cimport (
    vacos_block, vasin_block, vatan_block, vcos_block, vcosh_block, vexp_block, vlog_block, vpow_block,
    vsin_block, vsinh_block, vtan_block, vtanh_block,
)

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #define VF_RESTRICT __restrict
    #elif defined(__GNUC__) || defined(__clang__)
    #define VF_RESTRICT __restrict__
    #else
    #define VF_RESTRICT
    #endif
    """
    ctypedef double* Out "double *VF_RESTRICT"
    ctypedef const double* In "const double *VF_RESTRICT"

include "_opcodes.pxi"

cdef enum:
    SEARCH_FROM = 16  # tables with more points are searched, smaller ones scanned


# ------------------------------------------------------------------------------------------- operations

cdef void copy(Out d, In a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i]

cdef void negative(Out d, In a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = -a[i]

cdef void absolute(Out d, In a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = fabs(a[i])

cdef void square_root(Out d, In a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = sqrt(a[i])

cdef void integer(Out d, In a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = trunc(a[i])

cdef void logical_not(Out d, In a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] == 0.0 else 0.0) if a[i] == a[i] else NAN

cdef void add(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] + b[i]

cdef void add_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] + b

cdef void subtract(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] - b[i]

cdef void subtract_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] - b

cdef void subtract_sv(Out d, double a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a - b[i]

cdef void multiply(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] * b[i]

cdef void multiply_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] * b

cdef void divide(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] / b[i]

cdef void divide_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] / b

cdef void divide_sv(Out d, double a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a / b[i]

cdef void modulo(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = fmod(a[i], b[i])  # exact by definition, hence the same everywhere

cdef void minimum(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] if (a[i] < b[i]) | (a[i] != a[i]) else b[i]

cdef void minimum_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] if (a[i] < b) | (a[i] != a[i]) else b

cdef void minimum_sv(Out d, double a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a if (a < b[i]) | (a != a) else b[i]

cdef void maximum(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] if (a[i] > b[i]) | (a[i] != a[i]) else b[i]

cdef void maximum_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a[i] if (a[i] > b) | (a[i] != a[i]) else b

cdef void maximum_sv(Out d, double a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a if (a > b[i]) | (a != a) else b[i]

cdef void less(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] < b[i] else 0.0) if (a[i] == a[i]) & (b[i] == b[i]) else NAN

cdef void less_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] < b else 0.0) if (a[i] == a[i]) & (b == b) else NAN

cdef void less_equal(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] <= b[i] else 0.0) if (a[i] == a[i]) & (b[i] == b[i]) else NAN

cdef void less_equal_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] <= b else 0.0) if (a[i] == a[i]) & (b == b) else NAN

cdef void greater_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] > b else 0.0) if (a[i] == a[i]) & (b == b) else NAN

cdef void greater_equal_vs(Out d, In a, double b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] >= b else 0.0) if (a[i] == a[i]) & (b == b) else NAN

cdef void equal(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] == b[i] else 0.0) if (a[i] == a[i]) & (b[i] == b[i]) else NAN

cdef void not_equal(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if a[i] != b[i] else 0.0) if (a[i] == a[i]) & (b[i] == b[i]) else NAN

cdef void logical_and(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if (a[i] != 0.0) & (b[i] != 0.0) else 0.0) if (a[i] == a[i]) & (b[i] == b[i]) else NAN

cdef void logical_or(Out d, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (1.0 if (a[i] != 0.0) | (b[i] != 0.0) else 0.0) if (a[i] == a[i]) & (b[i] == b[i]) else NAN

cdef void if_then_else(Out d, In c, In a, In b, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (a[i] if c[i] != 0.0 else b[i]) if c[i] == c[i] else NAN

cdef void xidz(Out d, In a, In b, In x, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = x[i] if fabs(b[i]) < XIDZ_ZERO else a[i] / b[i]

cdef void share(Out d, In kind, In distance, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = allocation_share(kind[i], distance[i])

cdef void price(double* d, const double* registers, Py_ssize_t stride, const int* slots, int n_slots,
                int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = allocation_price(registers + i, stride, slots, n_slots)

cdef void total(double* d, const double* registers, Py_ssize_t stride, const int* slots, int n_slots,
                int n) noexcept nogil:
    cdef int i, j
    cdef double so_far
    for i in range(n):
        so_far = registers[slots[0] * stride + i]
        for j in range(1, n_slots):
            so_far = so_far + registers[slots[j] * stride + i]
        d[i] = so_far

cdef void gather(double* d, const double* registers, Py_ssize_t stride, const int* slots, int n_slots,
                 int n) noexcept nogil:
    cdef int i, j
    for j in range(n_slots):
        for i in range(n):
            d[j * stride + i] = registers[slots[j] * stride + i]

cdef void distribution(Out d, In x, In a, In b, int n, double (*function)(double, double, double) noexcept nogil
                       ) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = function(x[i], a[i], b[i])

cdef void fill(Out d, double a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = a

cdef void hold(double* d, In c, In a, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        d[i] = (a[i] if c[i] != 0.0 else d[i]) if c[i] == c[i] else NAN


cdef void table(Out d, In a, const double* points, int n_points, double below, int n) noexcept nogil:
    """Piecewise line: below the first point with slope `below`, from each point on with that point's slope."""
    cdef int i, k, low, high
    cdef double x = points[0], y = points[1], slope
    for i in range(n):
        d[i] = y + (a[i] - x) * below
    if n_points <= SEARCH_FROM:
        for k in range(n_points):
            x = points[3 * k]
            y = points[3 * k + 1]
            slope = points[3 * k + 2]
            for i in range(n):
                d[i] = y + (a[i] - x) * slope if a[i] >= x else d[i]
    else:
        for i in range(n):
            if a[i] >= points[0]:
                low = 0
                high = n_points
                while high - low > 1:
                    k = (low + high) // 2
                    if a[i] >= points[3 * k]:
                        low = k
                    else:
                        high = k
                d[i] = points[3 * low + 1] + (a[i] - points[3 * low]) * points[3 * low + 2]
    for i in range(n):
        d[i] = d[i] if a[i] == a[i] else NAN


# --------------------------------------------------------------------------------------------- segments

cdef struct Noise:
    long long step
    const unsigned int* keys     # (n_streams, 2)
    const long long* members     # (n,) of this block
    const double* given          # (n_given, n_times, given_width), from the block's first member on
    Py_ssize_t n_times
    Py_ssize_t given_width       # 1 where all members share the series


cdef struct Tape:
    Noise* noise
    const int* code
    const int* bounds
    const int* lists
    const int* table_offsets
    const double* table_points
    const double* table_below


cdef void given(Out d, const Noise* noise, int series, int n) noexcept nogil:
    """The value of a supplied series at the step."""
    cdef int i
    cdef const double* row = noise.given + (series * noise.n_times + noise.step) * noise.given_width
    for i in range(n):
        d[i] = row[i] if noise.given_width > 1 else row[0]


cdef void execute(const Tape* tape, int segment, double* registers, Py_ssize_t stride, int n_members,
                  const double* scalar, bint first_stage) noexcept nogil:
    """Run one segment over registers of `n_members` members, `stride` apart; counts other than 1 need a stride of 1."""
    cdef Py_ssize_t row
    cdef const int* at
    cdef int op, t, n
    cdef double* d
    cdef double* a
    cdef double* b
    cdef double* c
    for row in range(tape.bounds[segment], tape.bounds[segment + 1]):
        at = tape.code + 6 * row
        op = at[0]
        d = registers + at[1] * stride
        a = registers + at[2] * stride
        b = registers + at[3] * stride
        c = registers + at[4] * stride
        n = n_members * at[5]
        if op >= FIRST_PAIR: pair(at, d, a, b, c, n, scalar)
        elif op == OP_ADD: add(d, a, b, n)
        elif op == OP_MULTIPLY: multiply(d, a, b, n)
        elif op == OP_SUBTRACT: subtract(d, a, b, n)
        elif op == OP_DIVIDE: divide(d, a, b, n)
        elif op == OP_ADD_VS: add_vs(d, a, scalar[at[3]], n)
        elif op == OP_MULTIPLY_VS: multiply_vs(d, a, scalar[at[3]], n)
        elif op == OP_SUBTRACT_VS: subtract_vs(d, a, scalar[at[3]], n)
        elif op == OP_SUBTRACT_SV: subtract_sv(d, scalar[at[2]], b, n)
        elif op == OP_DIVIDE_VS: divide_vs(d, a, scalar[at[3]], n)
        elif op == OP_DIVIDE_SV: divide_sv(d, scalar[at[2]], b, n)
        elif op == OP_POWER: vpow_block(d, a, b, n)
        elif op == OP_EXP: vexp_block(d, a, n)
        elif op == OP_LN: vlog_block(d, a, n)
        elif op == OP_MIN: minimum(d, a, b, n)
        elif op == OP_MIN_VS: minimum_vs(d, a, scalar[at[3]], n)
        elif op == OP_MIN_SV: minimum_sv(d, scalar[at[2]], b, n)
        elif op == OP_MAX: maximum(d, a, b, n)
        elif op == OP_MAX_VS: maximum_vs(d, a, scalar[at[3]], n)
        elif op == OP_MAX_SV: maximum_sv(d, scalar[at[2]], b, n)
        elif op == OP_TABLE:
            t = at[3]
            table(d, a, tape.table_points + 3 * tape.table_offsets[t],
                  tape.table_offsets[t + 1] - tape.table_offsets[t], tape.table_below[t], n)
        elif op == OP_IF_THEN_ELSE: if_then_else(d, a, b, c, n)
        elif op == OP_LESS: less(d, a, b, n)
        elif op == OP_LESS_VS: less_vs(d, a, scalar[at[3]], n)
        elif op == OP_LESS_EQUAL: less_equal(d, a, b, n)
        elif op == OP_LESS_EQUAL_VS: less_equal_vs(d, a, scalar[at[3]], n)
        elif op == OP_GREATER: less(d, b, a, n)
        elif op == OP_GREATER_VS: greater_vs(d, a, scalar[at[3]], n)
        elif op == OP_GREATER_EQUAL: less_equal(d, b, a, n)
        elif op == OP_GREATER_EQUAL_VS: greater_equal_vs(d, a, scalar[at[3]], n)
        elif op == OP_EQUAL: equal(d, a, b, n)
        elif op == OP_NOT_EQUAL: not_equal(d, a, b, n)
        elif op == OP_AND: logical_and(d, a, b, n)
        elif op == OP_OR: logical_or(d, a, b, n)
        elif op == OP_NOT: logical_not(d, a, n)
        elif op == OP_XIDZ: xidz(d, a, b, c, n)
        elif op == OP_NEGATIVE: negative(d, a, n)
        elif op == OP_ABS: absolute(d, a, n)
        elif op == OP_SQRT: square_root(d, a, n)
        elif op == OP_INTEGER: integer(d, a, n)
        elif op == OP_MODULO: modulo(d, a, b, n)
        elif op == OP_SIN: vsin_block(d, a, n)
        elif op == OP_COS: vcos_block(d, a, n)
        elif op == OP_TAN: vtan_block(d, a, n)
        elif op == OP_ARCSIN: vasin_block(d, a, n)
        elif op == OP_ARCCOS: vacos_block(d, a, n)
        elif op == OP_ARCTAN: vatan_block(d, a, n)
        elif op == OP_SINH: vsinh_block(d, a, n)
        elif op == OP_COSH: vcosh_block(d, a, n)
        elif op == OP_TANH: vtanh_block(d, a, n)
        elif op == OP_ALLOCATION_SHARE: share(d, a, b, n)
        elif op == OP_ALLOCATION_PRICE: price(d, registers, stride, tape.lists + at[2], at[3], n)
        elif op == OP_SUM: total(d, registers, stride, tape.lists + at[2], at[3], n)
        elif op == OP_GATHER: gather(d, registers, stride, tape.lists + at[2], at[3], n)
        elif op == OP_COPY: copy(d, a, n)
        elif op == OP_FILL: fill(d, scalar[at[2]], n)
        elif op == OP_UNIFORM:
            philox_block(d, a, tape.noise.members, tape.noise.step, tape.noise.keys + 2 * at[3], n)
        elif op == OP_GIVEN: given(d, tape.noise, at[2], n)
        elif op == OP_NORMAL_PROBABILITY: vnormal_probability_block(d, a, n)
        elif op == OP_NORMAL_QUANTILE: vnormal_quantile_block(d, a, n)
        elif op == OP_COUNT_PROBABILITY: distribution(d, a, b, c, n, vcount_probability)
        elif op == OP_COUNT_QUANTILE: distribution(d, a, b, c, n, vcount_quantile)
        elif op == OP_BETA_PROBABILITY: distribution(d, a, b, c, n, vbeta_probability)
        elif op == OP_BETA_QUANTILE: distribution(d, a, b, c, n, vbeta_quantile)
        elif op == OP_HOLD:
            if first_stage:
                hold(d, a, b, n)


# --------------------------------------------------------------------------------------------- time loop

cdef struct States:
    int n_stocks
    const int* stock
    const int* flow
    int n_non_negative
    const int* non_negative  # (n_non_negative, 2) registers of the stock and of that which decides
    int n_delays
    const int* delay       # (n_delays, 4) registers of output, input, delay time, initial value


cdef struct Grid:
    double start
    double step
    long long n_steps
    bint rk4


cdef void stage(const Tape* tape, const Grid* grid, double* registers, Py_ssize_t stride, int n, double* scalar,
                long long k, double offset) noexcept nogil:
    """Evaluate the model at step `k` plus `offset` steps."""
    tape.noise.step = k
    scalar[0] = grid.start + (<double>k + offset) * grid.step
    scalar[1] = grid.start + <double>k * grid.step
    execute(tape, 2, scalar, 1, 1, scalar, offset == 0.0)
    execute(tape, 3, registers, stride, n, scalar, offset == 0.0)


cdef void euler(const States* states, const Grid* grid, double* registers, Py_ssize_t stride, int n) noexcept nogil:
    cdef int count, j = 0
    while j < states.n_stocks:
        count = neighbours(states, j) if stride == 1 else 1
        proceed(registers + states.stock[j] * stride, registers + states.flow[j] * stride, grid.step, n * count)
        j += count


cdef int neighbours(const States* states, int j) noexcept nogil:
    """How many stocks from stock `j` on have registers that follow each other, and their flows too."""
    cdef int count = 1
    while (j + count < states.n_stocks and states.stock[j + count] == states.stock[j] + count
           and states.flow[j + count] == states.flow[j] + count):
        count += 1
    return count


cdef void proceed(Out x, In flow, double step, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        x[i] = x[i] + step * flow[i]


cdef void not_below_zero(double* x, const double* decides, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        x[i] = 0.0 if decides[i] < 0.0 else x[i]


cdef void reach(Out x, In before, In flow, double step, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        x[i] = before[i] + step * flow[i]


cdef void accumulate(Out total, In flow, double weight, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        total[i] = total[i] + weight * flow[i]


cdef void runge_kutta(const Tape* tape, const Grid* grid, const States* states, double* registers, Py_ssize_t stride,
                      int n, double* scalar, double* work, long long k) noexcept nogil:
    """One classical fourth-order step; the flows of the first stage are in their registers. `work`: 2 n_stocks rows."""
    cdef int j, s
    cdef double* before = work
    cdef double* total = work + states.n_stocks * stride
    cdef double[3] offset = [0.5, 0.5, 1.0]
    cdef double[3] weight = [2.0, 2.0, 1.0]
    for j in range(states.n_stocks):
        copy(before + j * stride, registers + states.stock[j] * stride, n)
        copy(total + j * stride, registers + states.flow[j] * stride, n)
    for s in range(3):
        for j in range(states.n_stocks):
            reach(registers + states.stock[j] * stride, before + j * stride, registers + states.flow[j] * stride,
                  offset[s] * grid.step, n)
        stage(tape, grid, registers, stride, n, scalar, k, offset[s])
        for j in range(states.n_stocks):
            accumulate(total + j * stride, registers + states.flow[j] * stride, weight[s], n)
    for j in range(states.n_stocks):
        reach(registers + states.stock[j] * stride, before + j * stride, total + j * stride, grid.step / 6.0, n)


cdef long long delay_steps(double delay_time, double step, long long most) noexcept nogil:
    """Steps that a fixed delay holds a value: the nearest whole number, halves up, from 1 to the whole run."""
    cdef double steps = floor(delay_time / step + 0.5 + 1e-6)
    if not steps < <double>most:
        return most
    return <long long>steps if steps > 1.0 else 1


cdef void set_tape(Tape* tape, const int[:, ::1] code, const int[::1] bounds, const int[::1] lists,
                   const int[::1] table_offsets, const double[:, ::1] table_points, const double[::1] table_below,
                   const int* none, const double* nothing) noexcept:
    """Point to the arrays of a program; what is empty points to something that is never read."""
    tape.code = &code[0, 0] if code.shape[0] else none
    tape.bounds = &bounds[0]
    tape.lists = &lists[0] if lists.shape[0] else none
    tape.table_offsets = &table_offsets[0]
    tape.table_points = &table_points[0, 0] if table_points.shape[0] else nothing
    tape.table_below = &table_below[0] if table_below.shape[0] else nothing


cdef void begin(const Tape* tape, const double[::1] scalars, const double[:, ::1] parameters,
                const int[::1] parameter_slots, const double[::1] grid_scalars, int first, int n, Py_ssize_t stride,
                double* registers, double* scalar) noexcept nogil:
    """Fill the registers of a block and run what is computed once."""
    cdef Py_ssize_t j
    cdef int i
    for j in range(scalars.shape[0]):
        scalar[j] = scalars[j]
    for j in range(grid_scalars.shape[0]):
        scalar[j] = grid_scalars[j]
    for j in range(parameter_slots.shape[0]):
        for i in range(n):
            registers[parameter_slots[j] * stride + i] = parameters[j, first + i]
    execute(tape, 0, scalar, 1, 1, scalar, True)
    execute(tape, 1, registers, stride, n, scalar, True)


def run_block(const int[:, ::1] code, const int[::1] bounds, const double[::1] scalars,
              const double[:, ::1] parameters, const int[::1] parameter_slots,
              const int[::1] stock_slots, const int[::1] flow_slots, const int[:, ::1] non_negative,
              const int[:, ::1] delays, const int[:, ::1] save_slots, const int[::1] lists,
              const int[::1] table_offsets, const double[:, ::1] table_points,
              const double[::1] table_below, const double[::1] grid_scalars, long long n_steps, bint rk4,
              const long long[::1] save_steps, double[:, :, ::1] out, unsigned char[::1] healthy,
              const unsigned int[:, ::1] keys, const long long[::1] members, const double[:, :, ::1] given,
              int first, int n, Py_ssize_t stride, double[::1] registers, double[::1] scalar_work,
              double[::1] stage_work, double[::1] delay_work, long long[::1] delay_lengths):
    """Run members ``first`` to ``first + n``.

    Parameters
    ----------
    code ... table_below : the arrays of a `program.Program`
    parameters : (n_parameters, n_members)
    grid_scalars : (6,), in the order of `program.SCALARS`
    save_steps : (n_times,) increasing
    out : (n_saves, n_times, n_members), written for these members
    healthy : (n_members,), set to 0 where a stock or a saved value was not finite
    keys : (n_streams, 2), of the random streams
    members : (n_members,) numbers of the members in their design
    given : (n_given, n_steps + 1, n_members or 1) values of supplied series
    stride : members a register can hold, at least `n`
    registers, scalar_work, stage_work, delay_work : workspaces
    delay_lengths : (n_delays * stride,) workspace

    Returns
    -------
    int
        0, or the number of doubles that `delay_work` must have; then nothing was run.
    """
    cdef Tape tape
    cdef Noise noise
    cdef States states
    cdef Grid grid
    cdef long long needed
    cdef int none = 0
    cdef double nothing = 0.0
    cdef unsigned int no_key = 0
    noise.step = 0
    noise.keys = &keys[0, 0] if keys.shape[0] else &no_key
    noise.members = &members[first]
    noise.n_times = given.shape[1]
    noise.given_width = given.shape[2]
    noise.given = &given[0, 0, first if given.shape[2] > 1 else 0] if given.shape[0] else &nothing
    set_tape(&tape, code, bounds, lists, table_offsets, table_points, table_below, &none, &nothing)
    tape.noise = &noise
    states.n_stocks = <int>stock_slots.shape[0]
    states.stock = &stock_slots[0] if stock_slots.shape[0] else &none
    states.flow = &flow_slots[0] if flow_slots.shape[0] else &none
    states.n_non_negative = <int>non_negative.shape[0]
    states.non_negative = &non_negative[0, 0] if non_negative.shape[0] else &none
    states.n_delays = <int>delays.shape[0]
    states.delay = &delays[0, 0] if delays.shape[0] else &none
    grid.start = grid_scalars[2]
    grid.step = grid_scalars[4]
    grid.n_steps = n_steps
    grid.rk4 = rk4
    with nogil:
        needed = run(&tape, &states, &grid, scalars, parameters, parameter_slots, save_slots, grid_scalars, save_steps,
                     out, healthy, first, n, stride, &registers[0], &scalar_work[0], &stage_work[0],
                     delay_work, delay_lengths)
    return needed


cdef long long run(const Tape* tape, const States* states, const Grid* grid, const double[::1] scalars,
                   const double[:, ::1] parameters, const int[::1] parameter_slots, const int[:, ::1] save_slots,
                   const double[::1] grid_scalars, const long long[::1] save_steps, double[:, :, ::1] out,
                   unsigned char[::1] healthy, int first, int n, Py_ssize_t stride, double* registers, double* scalar,
                   double* work, double[::1] delay_work, long long[::1] delay_lengths) noexcept nogil:
    cdef Py_ssize_t j, saved = 0
    cdef int i
    cdef long long k, most = grid.n_steps + 1, longest = 0
    cdef double* x
    begin(tape, scalars, parameters, parameter_slots, grid_scalars, first, n, stride, registers, scalar)
    for j in range(states.n_delays):
        for i in range(n):
            delay_lengths[j * stride + i] = delay_steps(
                registers[states.delay[4 * j + 2] * stride + i], grid.step, most)
            if delay_lengths[j * stride + i] > longest:
                longest = delay_lengths[j * stride + i]
    if states.n_delays * longest * stride > delay_work.shape[0]:
        return states.n_delays * longest * stride
    start_delays(states, registers, stride, n, delay_work, delay_lengths, longest)
    for i in range(n):
        healthy[first + i] = 1
    for k in range(grid.n_steps + 1):
        read_delays(states, registers, stride, n, delay_work, delay_lengths, longest, k)
        stage(tape, grid, registers, stride, n, scalar, k, 0.0)
        write_delays(states, registers, stride, n, delay_work, delay_lengths, longest, k)
        if saved < save_steps.shape[0] and save_steps[saved] == k:
            execute(tape, 4, registers, stride, n, scalar, True)
            save(save_slots, registers, stride, n, scalar, out, healthy, first, saved)
            saved += 1
        if k == grid.n_steps:
            break
        if grid.rk4:
            runge_kutta(tape, grid, states, registers, stride, n, scalar, work, k)
        else:
            euler(states, grid, registers, stride, n)
        for j in range(states.n_non_negative):
            not_below_zero(registers + states.non_negative[2 * j] * stride,
                           registers + states.non_negative[2 * j + 1] * stride, n)
    for j in range(states.n_stocks):  # once not finite, a stock stays so: one look at the end is enough
        x = registers + states.stock[j] * stride
        for i in range(n):
            if not isfinite(x[i]):
                healthy[first + i] = 0
    return 0


cdef void save(const int[:, ::1] save_slots, const double* registers, Py_ssize_t stride, int n, const double* scalar,
               double[:, :, ::1] out, unsigned char[::1] healthy, int first, Py_ssize_t saved) noexcept nogil:
    cdef Py_ssize_t j
    cdef int i, slot
    cdef double value
    cdef double* target
    for j in range(save_slots.shape[0]):
        slot = save_slots[j, 1]
        target = &out[j, saved, first]
        for i in range(n):
            value = scalar[slot] if save_slots[j, 0] else registers[slot * stride + i]
            target[i] = value if value == value else NAN
            if not isfinite(value):
                healthy[first + i] = 0


# ------------------------------------------------------------------------------------------ fixed delays

cdef void start_delays(const States* states, const double* registers, Py_ssize_t stride, int n,
                       double[::1] buffer, long long[::1] lengths, long long longest) noexcept nogil:
    cdef Py_ssize_t j, step
    cdef int i
    cdef double delay_time, initial
    for j in range(states.n_delays):
        for i in range(n):
            delay_time = registers[states.delay[4 * j + 2] * stride + i]
            initial = registers[states.delay[4 * j + 3] * stride + i]
            for step in range(lengths[j * stride + i]):
                buffer[(j * longest + step) * stride + i] = initial if delay_time == delay_time else NAN


cdef void read_delays(const States* states, double* registers, Py_ssize_t stride, int n, double[::1] buffer,
                      long long[::1] lengths, long long longest, long long k) noexcept nogil:
    cdef Py_ssize_t j
    cdef int i
    for j in range(states.n_delays):
        for i in range(n):
            registers[states.delay[4 * j] * stride + i] = (
                buffer[(j * longest + k % lengths[j * stride + i]) * stride + i])


cdef void write_delays(const States* states, const double* registers, Py_ssize_t stride, int n, double[::1] buffer,
                       long long[::1] lengths, long long longest, long long k) noexcept nogil:
    cdef Py_ssize_t j
    cdef int i
    for j in range(states.n_delays):
        for i in range(n):
            buffer[(j * longest + k % lengths[j * stride + i]) * stride + i] = (
                registers[states.delay[4 * j + 1] * stride + i])


include "_adaptive.pxi"
