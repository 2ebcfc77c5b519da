# The adaptive method over one block of members: part of _tape.pxi, which includes it.
#
# Every member has a time, a step and a target of its own: the next event or the save point. All members of the block go
# through the stages of one attempted step together; one that has reached the save point, or has stopped for good, tries
# a step of length 0 that is thrown away. No choice looks across members. Every attempt computes its first stage anew,
# because an event may lie where the step before ended.
#
# Constants and their order: program/dormand_prince.py. Twin: program/adaptive_reference.py.

from villageflow._kernels._vmath cimport vpow

cdef enum:
    SAVED_NOT_FINITE = 0
    FINISHED = 1
    NOT_FINITE = 2
    STEP_UNDERFLOW = 3
    TOO_MANY_STEPS = 4

cdef enum:
    STAGES = 7

cdef enum:  # rows of the lanes' doubles
    TIME_ROW
    STEP_ROW        # proposed for the next attempt
    TRIED_ROW       # length of the attempt under way
    TARGET_ROW
    BEFORE_ROW      # error of the last accepted step
    ERROR_ROW
    ATTEMPTS_ROW    # since the last save point
    WAITING_ROW     # 1 at the save point, or stopped
    REJECTED_ROW    # 1 after a rejection
    LANE_ROWS

cdef struct Clock:
    int time
    int step_time
    int n_events
    const int* events          # (n_events, 4)
    const double* nodes        # (7,)
    const double* weights      # (8, 7)
    const double* controller   # (9,)
    double relative
    double absolute
    double first_step
    double same                # times closer than this are one

cdef struct Lanes:
    double* row                # (LANE_ROWS, stride)
    double* before             # (n_stocks, stride) stocks when the step began
    double* slope              # (7, n_stocks, stride) net flows of the stages
    double* error              # (stride,)
    unsigned char* outcome     # (n,)
    int* culprit               # (n,) stock with the largest error
    int* reached               # (n,) save points
    double* stopped            # (n,) time


cdef double event_after(const Tape* tape, const Clock* clock, const double* registers, Py_ssize_t stride, int i,
                        double now, double until) noexcept nogil:
    """The first event of member `i` after `now`, or `until`; both bounds leave out what is the same time."""
    cdef int e
    cdef const int* row
    cdef double soon = now + clock.same, late = until - clock.same, best = until, at, period
    for e in range(clock.n_events):
        row = clock.events + 4 * e
        at = registers[row[1] * stride + i]
        if row[0] >= 0:
            at = break_after(tape, row[0], at, registers[row[2] * stride + i], soon)
        elif row[2] >= 0 and not at > soon:
            period = registers[row[2] * stride + i]
            if period > 0.0:
                at = at + (floor((soon - at) / period) + 1.0) * period
                if not at > soon:
                    at = at + period
        if row[0] < 0 and row[3] >= 0 and at > registers[row[3] * stride + i]:
            continue
        if at > soon and at < late and at < best:
            best = at
    return best


cdef double break_after(const Tape* tape, int t, double slope, double offset, double soon) noexcept nogil:
    """The first time after `soon` at which ``slope * time + offset`` is at a point of table `t`; NaN if there is none."""
    cdef const double* points = tape.table_points + 3 * tape.table_offsets[t]
    cdef int n_points = tape.table_offsets[t + 1] - tape.table_offsets[t]
    cdef int low = 0, high = n_points, k, way
    cdef double value = slope * soon + offset, at
    if not (slope > 0.0 or slope < 0.0) or value != value:
        return NAN
    while low < high:  # the first point that is greater, or for a falling line not less
        k = (low + high) // 2
        if points[3 * k] > value or (slope < 0.0 and points[3 * k] == value):
            high = k
        else:
            low = k + 1
    way = 1 if slope > 0.0 else -1
    k = low if slope > 0.0 else low - 1
    while 0 <= k < n_points:
        at = (points[3 * k] - offset) / slope
        if at > soon:
            return at
        k += way
    return NAN


cdef void choose_steps(const Tape* tape, const Clock* clock, const double* registers, Py_ssize_t stride, int n,
                       double until, Lanes* lanes) noexcept nogil:
    """The length of the next attempt: as proposed, but onto the target, and never leaving a sliver before it."""
    cdef int i
    cdef double now, left, step
    for i in range(n):
        now = lanes.row[TIME_ROW * stride + i]
        if lanes.row[WAITING_ROW * stride + i] != 0.0:
            lanes.row[TRIED_ROW * stride + i] = 0.0
            continue
        if not lanes.row[TARGET_ROW * stride + i] > now:
            lanes.row[TARGET_ROW * stride + i] = event_after(tape, clock, registers, stride, i, now, until)
        left = lanes.row[TARGET_ROW * stride + i] - now
        step = lanes.row[STEP_ROW * stride + i]
        lanes.row[TRIED_ROW * stride + i] = left if step >= left else (0.5 * left if 2.0 * step > left else step)


cdef void combine(Out x, const double* before, const double* slope, Py_ssize_t stage_stride, const double* weights,
                  int n_stages, const double* step, int n) noexcept nogil:
    """x = before + step * (weighted sum of net flows), or without `before` the sum times the step."""
    cdef int i, s
    multiply_vs(x, slope, weights[0], n)
    for s in range(1, n_stages):
        if weights[s] != 0.0:
            accumulate(x, slope + s * stage_stride, weights[s], n)
    if before:
        for i in range(n):
            x[i] = before[i] + step[i] * x[i]
    else:
        for i in range(n):
            x[i] = step[i] * x[i]


cdef void attempt(const Tape* tape, const Clock* clock, const States* states, double* registers, Py_ssize_t stride,
                  int n, const double* scalar, Lanes* lanes) noexcept nogil:
    """The seven stages of one step of every member; stocks end at the fifth-order result."""
    cdef int i, j, s
    cdef Py_ssize_t size = states.n_stocks * stride
    cdef double* time = registers + clock.time * stride
    cdef double* middle = registers + clock.step_time * stride
    cdef const double* now = lanes.row + TIME_ROW * stride
    cdef const double* step = lanes.row + TRIED_ROW * stride
    for i in range(n):
        middle[i] = now[i] + 0.5 * step[i]
    for s in range(STAGES):
        for j in range(states.n_stocks):
            if s == 0:
                copy(registers + states.stock[j] * stride, lanes.before + j * stride, n)
            else:
                combine(registers + states.stock[j] * stride, lanes.before + j * stride, lanes.slope + j * stride, size,
                        clock.weights + STAGES * s, s, step, n)
        for i in range(n):
            time[i] = now[i] + clock.nodes[s] * step[i]
        execute(tape, 3, registers, stride, n, scalar, True)
        for j in range(states.n_stocks):
            copy(lanes.slope + s * size + j * stride, registers + states.flow[j] * stride, n)


cdef void measure(const Clock* clock, const States* states, const double* registers, Py_ssize_t stride, int n,
                  Lanes* lanes) noexcept nogil:
    """The largest error over stocks, relative to what the tolerances allow; infinite if anything is not finite."""
    cdef int i, j
    cdef Py_ssize_t size = states.n_stocks * stride
    cdef double ratio, level
    cdef double* error = lanes.error
    cdef double* worst = lanes.row + ERROR_ROW * stride
    cdef const double* x
    cdef const double* before
    fill(worst, 0.0, n)
    for j in range(states.n_stocks):
        combine(error, NULL, lanes.slope + j * stride, size, clock.weights + STAGES * STAGES, STAGES,
                lanes.row + TRIED_ROW * stride, n)
        x = registers + states.stock[j] * stride
        before = lanes.before + j * stride
        for i in range(n):
            level = fabs(x[i]) if fabs(x[i]) > fabs(before[i]) else fabs(before[i])
            ratio = fabs(error[i]) / (clock.absolute + clock.relative * level)
            if not isfinite(ratio) or not isfinite(x[i]):
                ratio = INFINITY
            if ratio > worst[i] and lanes.row[WAITING_ROW * stride + i] == 0.0:
                worst[i] = ratio
                lanes.culprit[i] = j


cdef bint begins_finite(const States* states, Py_ssize_t stride, int i, Lanes* lanes) noexcept nogil:
    """Whether stocks and net flows are finite where the step begins; if not, names the stock."""
    cdef int j
    for j in range(states.n_stocks):
        if not isfinite(lanes.before[j * stride + i]) or not isfinite(lanes.slope[j * stride + i]):
            lanes.culprit[i] = j
            return False
    return True


cdef void stop(Lanes* lanes, Py_ssize_t stride, int i, unsigned char outcome) noexcept nogil:
    lanes.outcome[i] = outcome
    lanes.stopped[i] = lanes.row[TIME_ROW * stride + i]
    lanes.row[WAITING_ROW * stride + i] = 1.0


cdef void judge(const Clock* clock, const States* states, const double* registers, Py_ssize_t stride, int n,
                double until, Lanes* lanes) noexcept nogil:
    """Accept or reject each member's step, choose its next one, and stop those that cannot go on."""
    cdef int i, j
    cdef double error, tried, step, now, factor, scale
    cdef const double* c = clock.controller
    for i in range(n):
        if lanes.row[WAITING_ROW * stride + i] != 0.0:
            continue
        if not begins_finite(states, stride, i, lanes):
            stop(lanes, stride, i, NOT_FINITE)
            continue
        error = lanes.row[ERROR_ROW * stride + i]
        tried = lanes.row[TRIED_ROW * stride + i]
        step = lanes.row[STEP_ROW * stride + i]
        now = lanes.row[TIME_ROW * stride + i]
        lanes.row[ATTEMPTS_ROW * stride + i] += 1.0
        if error <= 1.0:
            for j in range(states.n_stocks):
                lanes.before[j * stride + i] = registers[states.stock[j] * stride + i]
            factor = c[0] * vpow(error, -c[1]) * vpow(lanes.row[BEFORE_ROW * stride + i], c[2])
            factor = c[3] if factor < c[3] else (c[4] if factor > c[4] else factor)
            if lanes.row[REJECTED_ROW * stride + i] != 0.0 and factor > 1.0:
                factor = 1.0
            lanes.row[REJECTED_ROW * stride + i] = 0.0
            lanes.row[BEFORE_ROW * stride + i] = error if error > c[5] else c[5]
            factor = tried * factor
            lanes.row[STEP_ROW * stride + i] = step if tried < step and step > factor else factor
            now = lanes.row[TARGET_ROW * stride + i] if step >= lanes.row[TARGET_ROW * stride + i] - now else now + tried
            lanes.row[TIME_ROW * stride + i] = now
            if now == until:
                lanes.row[WAITING_ROW * stride + i] = 1.0
                continue
        else:
            factor = c[0] * vpow(error, -c[6])
            step = tried * (c[3] if factor < c[3] else factor)
            lanes.row[STEP_ROW * stride + i] = step
            lanes.row[REJECTED_ROW * stride + i] = 1.0
            scale = fabs(now) if fabs(now) > clock.first_step else clock.first_step
            if step < c[7] * scale:
                stop(lanes, stride, i, STEP_UNDERFLOW)
                continue
        if not lanes.row[ATTEMPTS_ROW * stride + i] < c[8]:
            stop(lanes, stride, i, TOO_MANY_STEPS)


cdef bint all_wait(const Lanes* lanes, Py_ssize_t stride, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        if lanes.row[WAITING_ROW * stride + i] == 0.0:
            return False
    return True


cdef void advance(const Tape* tape, const Clock* clock, const States* states, double* registers, Py_ssize_t stride,
                  int n, const double* scalar, double until, Lanes* lanes) noexcept nogil:
    """Bring every member that has not stopped to the time `until`."""
    cdef int i
    for i in range(n):
        lanes.row[ATTEMPTS_ROW * stride + i] = 0.0
        lanes.row[WAITING_ROW * stride + i] = (
            0.0 if lanes.outcome[i] <= FINISHED and lanes.row[TIME_ROW * stride + i] < until else 1.0)
    while not all_wait(lanes, stride, n):
        choose_steps(tape, clock, registers, stride, n, until, lanes)
        attempt(tape, clock, states, registers, stride, n, scalar, lanes)
        measure(clock, states, registers, stride, n, lanes)
        judge(clock, states, registers, stride, n, until, lanes)


cdef void save_lanes(const int[:, ::1] save_slots, const double* registers, Py_ssize_t stride, int n,
                     const double* scalar, double[:, :, ::1] out, int first, int point, Lanes* lanes) noexcept nogil:
    """Store a save point; of a member that stopped before it, once the values where it stopped and then NaN."""
    cdef Py_ssize_t j
    cdef int i, slot
    cdef double value
    for j in range(save_slots.shape[0]):
        slot = save_slots[j, 1]
        for i in range(n):
            value = scalar[slot] if save_slots[j, 0] else registers[slot * stride + i]
            if lanes.outcome[i] > FINISHED and lanes.reached[i] < point:
                value = NAN
            elif not isfinite(value) and lanes.outcome[i] == FINISHED:
                lanes.outcome[i] = SAVED_NOT_FINITE
            out[j, point, first + i] = value if value == value else NAN
    for i in range(n):
        if lanes.outcome[i] <= FINISHED:
            lanes.reached[i] = point + 1


cdef void run_adaptive(const Tape* tape, const Clock* clock, const States* states, const Grid* grid,
                       const int[:, ::1] save_slots, const long long[::1] save_steps, double[:, :, ::1] out, int first,
                       int n, Py_ssize_t stride, double* registers, const double* scalar, Lanes* lanes) noexcept nogil:
    """The member segment has run: bring every member from save point to save point, and to the end of the run."""
    cdef int i, j, point, n_points = <int>save_steps.shape[0]
    cdef long long k
    for i in range(n):
        lanes.row[TIME_ROW * stride + i] = lanes.row[TARGET_ROW * stride + i] = grid.start
        lanes.row[STEP_ROW * stride + i] = grid.step
        lanes.row[BEFORE_ROW * stride + i] = 1.0
        lanes.row[REJECTED_ROW * stride + i] = 0.0
        lanes.outcome[i] = FINISHED
        lanes.culprit[i] = lanes.reached[i] = 0
        lanes.stopped[i] = NAN
    for j in range(states.n_stocks):
        copy(lanes.before + j * stride, registers + states.stock[j] * stride, n)
    for point in range(n_points + 1):
        k = save_steps[point] if point < n_points else grid.n_steps
        advance(tape, clock, states, registers, stride, n, scalar, grid.start + <double>k * grid.step, lanes)
        if point == n_points:
            break
        copy(registers + clock.time * stride, lanes.row + TIME_ROW * stride, n)
        copy(registers + clock.step_time * stride, lanes.row + TIME_ROW * stride, n)
        for j in range(states.n_stocks):
            copy(registers + states.stock[j] * stride, lanes.before + j * stride, n)
        execute(tape, 3, registers, stride, n, scalar, True)
        execute(tape, 4, registers, stride, n, scalar, True)
        save_lanes(save_slots, registers, stride, n, scalar, out, first, point, lanes)
    for j in range(states.n_stocks):  # a step to the end is accepted only when finite; stocks that never moved are not
        for i in range(n):
            if lanes.outcome[i] == FINISHED and not isfinite(lanes.before[j * stride + i]):
                lanes.outcome[i] = SAVED_NOT_FINITE


def run_adaptive_block(const int[:, ::1] code, const int[::1] bounds, const double[::1] scalars,
                       const double[:, ::1] parameters, const int[::1] parameter_slots, const int[::1] stock_slots,
                       const int[::1] flow_slots, const int[:, ::1] save_slots, const int[::1] lists,
                       const int[::1] table_offsets, const double[:, ::1] table_points, const double[::1] table_below,
                       int time_slot, int step_time_slot, const int[:, ::1] events, const double[::1] nodes,
                       const double[:, ::1] weights, const double[::1] controller, const double[::1] tolerances,
                       const double[::1] grid_scalars, long long n_steps, const long long[::1] save_steps,
                       double[:, :, ::1] out, unsigned char[::1] outcome, int[:, ::1] ends, double[::1] stopped,
                       int first, int n, Py_ssize_t stride, double[::1] registers, double[::1] scalar_work,
                       double[::1] lane_work):
    """Run members ``first`` to ``first + n`` with steps of their own.

    Parameters
    ----------
    code ... table_below, time_slot, step_time_slot, events : of a `program.Program` with a clock
    parameters : (n_parameters, n_members)
    nodes, weights, controller : (7,), (8, 7), (9,), as `program.dormand_prince` has them
    tolerances : (3,), relative, absolute, and the time below which two times are one
    grid_scalars : (6,), in the order of `program.SCALARS`
    save_steps : (n_times,) increasing
    out : (n_saves, n_times, n_members); from the save point on that a member does not reach, the values where it
        stopped, then NaN
    outcome : (n_members,), a number of `program.dormand_prince.Outcome`
    ends : (2, n_members), stock with the largest error, number of save points reached
    stopped : (n_members,), time at which a member stopped, or NaN
    stride : members a register can hold, at least `n`
    registers, scalar_work : workspaces
    lane_work : workspace of (10 + 8 n_stocks) * stride
    """
    cdef Tape tape
    cdef States states
    cdef Grid grid
    cdef Clock clock
    cdef Lanes lanes
    cdef int none = 0
    cdef double nothing = 0.0
    set_tape(&tape, code, bounds, lists, table_offsets, table_points, table_below, &none, &nothing)
    tape.noise = NULL  # nothing draws in an adaptive program
    states.n_stocks = <int>stock_slots.shape[0]
    states.stock = &stock_slots[0] if stock_slots.shape[0] else &none
    states.flow = &flow_slots[0] if flow_slots.shape[0] else &none
    states.n_non_negative = 0
    states.non_negative = &none
    states.n_delays = 0
    states.delay = &none
    grid.start = grid_scalars[2]
    grid.step = grid_scalars[4]
    grid.n_steps = n_steps
    grid.rk4 = False
    clock.time = time_slot
    clock.step_time = step_time_slot
    clock.n_events = <int>events.shape[0]
    clock.events = &events[0, 0] if events.shape[0] else &none
    clock.nodes = &nodes[0]
    clock.weights = &weights[0, 0]
    clock.controller = &controller[0]
    clock.relative = tolerances[0]
    clock.absolute = tolerances[1]
    clock.same = tolerances[2]
    clock.first_step = grid.step
    lanes.row = &lane_work[0]
    lanes.error = lanes.row + LANE_ROWS * stride
    lanes.before = lanes.error + stride
    lanes.slope = lanes.before + states.n_stocks * stride
    lanes.outcome = &outcome[first]
    lanes.culprit = &ends[0, first]
    lanes.reached = &ends[1, first]
    lanes.stopped = &stopped[first]
    with nogil:
        begin(&tape, scalars, parameters, parameter_slots, grid_scalars, first, n, stride, &registers[0],
              &scalar_work[0])
        run_adaptive(&tape, &clock, &states, &grid, save_slots, save_steps, out, first, n, stride, &registers[0],
                     &scalar_work[0], &lanes)
