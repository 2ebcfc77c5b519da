"""Distribution functions and quantiles that random functions are made of, with the same bits on every machine.

All are inversions: one uniform number gives one value, so that equal numbers under two policies give values that
differ only by what the policies do.

  normal probability   for z < 0: exp(-z^2/2) times g(|z|), where (1 + 2t) g(t) is one polynomial in
                       (t - 4)/(t + 4) and z^2 is kept in two parts, so that tails are as accurate as the centre.
  normal quantile      Wichura's AS 241.
  count distributions  the (a, b, 0) class: the probability of k is that of k - 1 times a + b/k, which holds for the
                       Poisson, the binomial and the negative binomial and for no other.  Weights relative to the
                       mode are summed until they no longer count; their total takes the place of gamma functions.

  gamma, beta          Continued fractions of the parts below and above a point, b and c, over the density there: the
                       probability below is b/(b + c), and b + c is known everywhere once it is at one point, which
                       takes the place of the gamma function.  On the scale t = log x, or log(x/(1 - x)), densities
                       are log-concave and d log b/(b + c) = dt/b, so that Newton's method on the logarithm of the
                       smaller part finds every quantile from any start.

Sources.  The polynomial was computed for this file: in 80-digit arithmetic the function is interpolated at 24
Chebyshev nodes for t in [0, 39], and the monomial coefficients are rounded to double;
`tests/kernel/test_distributions.py` repeats it.  M. J. Wichura, "Algorithm AS 241: the percentage points of the
normal distribution", Applied Statistics 37 (1988).  H. H. Panjer, "Recursive evaluation of a family of compound
distributions", ASTIN Bulletin 12 (1981), names the class.
"""

from villageflow._kernels._vmath cimport vexp, vlog

cdef extern from *:
    """
    #ifndef VILLAGEFLOW_DISTRIBUTIONS
    #define VILLAGEFLOW_DISTRIBUTIONS

    VM_FN double vm_horner(double y, const double *c, int n, double x)  /* the next n powers, highest first */
    {
        for (int i = 0; i < n; i++) y = y * x + c[i];
        return y;
    }
    #define VM_RATIO(c, x) (vm_horner(c[0][0], c[0] + 1, 7, x) / vm_horner(c[1][0], c[1] + 1, 7, x))

    /* ---- normal ---- */

    VM_FN double vnormal_probability(double z)
    {
        static const double g[24] = {
            -0x1.b938aba09c22cp-30, -0x1.7dbff5fea7cedp-29, 0x1.df09b7b020617p-27, 0x1.2a157db52ad54p-25,
            -0x1.b526e77f79349p-25, -0x1.ef39afa1beb47p-23, 0x1.d921210f4a3ebp-25, 0x1.416f04e1896d1p-20,
            0x1.43e24ca9200e6p-21, -0x1.8b10086095902p-18, -0x1.9501cc0cda18ap-18, 0x1.08b8716ad9877p-15,
            0x1.3daa19653938bp-15, -0x1.ac9014ce5a3f7p-13, -0x1.2c889d9ddfe94p-13, 0x1.9d653be08681dp-10,
            -0x1.3d35c15374cb3p-10, -0x1.5877b9b4cac02p-7, 0x1.6b6ea911ce04bp-5, -0x1.862fda1becae1p-4,
            0x1.0800fd0f642e7p-3, -0x1.8ac5bd7636523p-4, -0x1.78fbb7ec2d911p-6, 0x1.b30b52fe27787p-1};
        double t = fabs(z), c = t > 39.0 ? 39.0 : t, top = vm_top(c), p;
        vm_exp_parts e = vm_exp_split(-0.5 * (top * top), -0.5 * ((c - top) * (c + top)), 0.0);
        p = (c - 4.0) / (c + 4.0);
        p = vm_horner(vm_horner(g[0], g + 1, 12, p), g + 13, 11, p) / (1.0 + 2.0 * c);  /* short loops are unrolled */
        p = (e.one_plus + e.tail) * p * e.scale1 * e.scale2;
        p = t > 39.0 ? 0.0 : p;
        return vm_canonical(z == z ? (z > 0.0 ? 1.0 - p : p) : z);
    }
    VM_FN double vnormal_quantile(double p)
    {
        static const double centre[2][8] = {
            {2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
             1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080},
            {5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
             5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0}};
        static const double tail[2][8] = {
            {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
             1.27045825245236838258, 3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590,
             1.42343711074968357734},
            {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
             1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187,
             1.0}};
        static const double far[2][8] = {
            {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
             2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990,
             6.65790464350110377720},
            {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
             7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
             5.99832206555887937690e-1, 1.0}};
        double q = p - 0.5, other = 1.0 - p, x = 0.180625 - q * q, r, y, z;
        y = q * VM_RATIO(centre, x);
        r = sqrt(-vlog(p < other ? p : other));
        x = r - 1.6;
        z = VM_RATIO(tail, x);
        x = r - 5.0;
        x = VM_RATIO(far, x);
        z = r <= 5.0 ? z : x;
        z = r == vm_inf() ? r : z;
        z = q < 0.0 ? -z : z;
        return vm_canonical(fabs(q) <= 0.425 ? y : z);
    }
    static inline void vnormal_probability_block(double *VM_RESTRICT d, const double *VM_RESTRICT a, int n)
    {
        for (int i = 0; i < n; i++) d[i] = vnormal_probability(a[i]);
    }
    static inline void vnormal_quantile_block(double *VM_RESTRICT d, const double *VM_RESTRICT a, int n)
    {
        for (int i = 0; i < n; i++) d[i] = vnormal_quantile(a[i]);
    }

    /* ---- counts of the (a, b, 0) class ---- */

    #define VM_COUNT_TERMS 1e6      /* more are not summed: the result is not a number */
    #define VM_COUNT_NEGLIGIBLE 1e-25

    typedef struct { double first, weight, last, total; int known; } vm_counts;

    /* the numbers that count, the weight of the first, and the total: in an order that depends on a and b alone */
    static inline vm_counts vm_count_range(double a, double b)
    {
        vm_counts r; double mode, end, w = 1.0, k;
        r.known = a < 1.0 && a > -vm_inf() && a + b >= 0.0 && b < vm_inf();
        if (!r.known) return r;
        end = a < 0.0 ? floor(0.5 - b / a) - 1.0 : vm_inf();  /* of a binomial: number of trials */
        mode = floor(b / (1.0 - a));
        mode = mode > 0.0 ? mode : 0.0;
        mode = mode < end ? mode : end;
        r.known = mode < 0x1p52;
        for (k = mode; r.known && k > 0.0 && w > VM_COUNT_NEGLIGIBLE; k -= 1.0) {
            w = w / (a + b / k);
            r.known = mode - k < VM_COUNT_TERMS;
        }
        r.first = k;
        r.weight = w;
        r.total = w;
        while (r.known && k < end && (k < mode || w > VM_COUNT_NEGLIGIBLE * r.total)) {
            k += 1.0;
            w = w * (a + b / k);
            r.total += w;
            r.known = k - mode < VM_COUNT_TERMS;
        }
        r.last = k;
        return r;
    }
    static inline double vcount_probability(double x, double a, double b)  /* that the count is at most x */
    {
        vm_counts r; double k, w, sum;
        if (x < 0.0) return 0.0;  /* the usual lower bound, for nothing */
        r = vm_count_range(a, b);
        if (!r.known || x != x) return vm_nan();
        if (x < r.first) return 0.0;
        if (x >= r.last) return 1.0;
        x = floor(x);
        for (k = r.first, sum = w = r.weight; k < x; sum += w) {
            k += 1.0;
            w = w * (a + b / k);
        }
        return sum / r.total;
    }
    static inline double vcount_quantile(double p, double a, double b)  /* the least count of probability p */
    {
        vm_counts r = vm_count_range(a, b); double k, w, sum, target;
        if (!r.known || !(p >= 0.0 && p <= 1.0)) return vm_nan();
        target = p * r.total;
        for (k = r.first, sum = w = r.weight; k < r.last && sum < target; sum += w) {
            k += 1.0;
            w = w * (a + b / k);
        }
        return k;
    }

    /* ---- gamma, beta ---- */

    #define VM_SHAPE_MAX 1e6
    #define VM_FRACTION_TERMS 100000
    #define VM_NEWTON_STEPS 100

    typedef struct { double below, above, log_sum; } vm_parts;  /* of the probability, over that of a unit of t */

    static inline double vm_gamma_below(double x, double a)  /* a positive series */
    {
        double term = 1.0 / a, sum = term;
        for (int n = 1; n < VM_FRACTION_TERMS && term > 0x1p-55 * sum; n++) {
            term = term * (x / (a + n));
            sum += term;
        }
        return sum;
    }
    /* Lentz's method for f = b0 + a1/(b1 + a2/(b2 + ...)) keeps f, and the quotients of numerators and denominators */
    #define VM_LENTZ_START(f0) double f = (f0), up = f, down = 0.0, a_n, b_n, change = 0.0
    #define VM_LENTZ_STEP \
        down = b_n + a_n * down; \
        down = 1.0 / (fabs(down) < 0x1p-1000 ? 0x1p-1000 : down); \
        up = b_n + a_n / up; \
        up = fabs(up) < 0x1p-1000 ? 0x1p-1000 : up; \
        change = up * down; \
        f = f * change
    static inline double vm_gamma_above(double x, double a)  /* x > a */
    {
        VM_LENTZ_START(x + 1.0 - a);
        for (int n = 1; n < VM_FRACTION_TERMS && fabs(change - 1.0) > 0x1p-52; n++) {
            a_n = -n * (n - a);
            b_n = x + (2.0 * n + 1.0) - a;
            VM_LENTZ_STEP;
        }
        return 1.0 / f;
    }
    static inline double vm_beta_below(double x, double a, double b)  /* x not far above a/(a + b) */
    {
        VM_LENTZ_START(1.0);
        for (int m = 0; m < VM_FRACTION_TERMS && fabs(change - 1.0) > 0x1p-52; m++) {
            b_n = 1.0;
            a_n = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
            VM_LENTZ_STEP;
            a_n = (m + 1.0) * (b - (m + 1.0)) * x / ((a + 2.0 * m + 1.0) * (a + 2.0 * m + 2.0));
            VM_LENTZ_STEP;
        }
        return 1.0 / (a * f);
    }
    /* one family: b is infinite for the gamma; x is between 0 and 1 for the beta, and y = 1 - x */
    static inline double vm_pivot(double a, double b) { return b == vm_inf() ? a + 1.0 : (a + 1.0) / (a + b + 2.0); }
    static inline double vm_parts_total(double a, double b)  /* both parts at the pivot */
    {
        const double x = vm_pivot(a, b);
        return b == vm_inf() ? vm_gamma_below(x, a) + vm_gamma_above(x, a)
            : vm_beta_below(x, a, b) + vm_beta_below((b + 1.0) / (a + b + 2.0), b, a);
    }
    static inline vm_parts vm_parts_at(double x, double y, double a, double b, double total)
    {
        const double pivot = vm_pivot(a, b); const int gamma = b == vm_inf();
        const double far = gamma ? x - pivot : -b * vlog(y / ((b + 1.0) / (a + b + 2.0)));
        vm_parts r;
        r.log_sum = vlog(total) + (far - a * vlog(x / pivot));
        total = total * vexp(far - a * vlog(x / pivot));
        if (x < pivot) {
            r.below = gamma ? vm_gamma_below(x, a) : vm_beta_below(x, a, b);
            r.above = total - r.below;
        } else {
            r.above = gamma ? vm_gamma_above(x, a) : vm_beta_below(y, b, a);
            r.below = total - r.above;
        }
        return r;
    }
    static inline int vm_shapes_fit(double a, double b)
    {
        return a > 0.0 && a <= VM_SHAPE_MAX && b > 0.0 && (b <= VM_SHAPE_MAX || b == vm_inf());
    }
    static inline double vbeta_probability(double x, double a, double b)
    {
        vm_parts r;
        if (!vm_shapes_fit(a, b) || x != x) return vm_nan();
        if (x <= 0.0) return 0.0;
        if (x >= (b == vm_inf() ? b : 1.0)) return 1.0;
        r = vm_parts_at(x, 1.0 - x, a, b, vm_parts_total(a, b));
        if (r.below > r.above) return 1.0 - (r.above > 0.0 ? r.above / (r.below + r.above) : 0.0);
        return r.below / (r.below + r.above);
    }
    static inline double vbeta_quantile(double p, double a, double b)
    {
        const double q = 1.0 - p, end = b == vm_inf() ? b : 1.0; const int gamma = b == vm_inf();
        double total, x, y, t, step = 1.0;
        if (!vm_shapes_fit(a, b) || !(p >= 0.0 && p <= 1.0)) return vm_nan();
        if (p == 0.0 || q == 0.0) return p == 0.0 ? 0.0 : end;
        total = vm_parts_total(a, b);
        x = vm_pivot(a, b);
        y = 1.0 - x;
        t = gamma ? vlog(x) : vlog(x / y);
        for (int n = 0; n < VM_NEWTON_STEPS && fabs(step) > 1e-15 * (1.0 + fabs(t)); n++) {
            const int lower = p < q, direct = lower == (x < vm_pivot(a, b));
            const vm_parts r = vm_parts_at(x, y, a, b, total);
            const double part = lower ? r.below : r.above;  /* its logarithm holds where the sum overflows */
            const double log_part = direct ? vlog(part) - r.log_sum : vlog(part / (r.below + r.above));
            step = lower ? (vlog(p) - log_part) * part : (log_part - vlog(q)) * part;
            t = t + step;
            t = t < -700.0 ? -700.0 : (t > 700.0 ? 700.0 : t);  /* what lies beyond is as good as 0 or the end */
            x = vexp(gamma ? t : -t);
            if (!gamma) { y = x / (1.0 + x); x = 1.0 / (1.0 + x); }
        }
        return x;
    }
    #endif
    """
    double vnormal_probability(double z) noexcept nogil
    double vnormal_quantile(double p) noexcept nogil
    double vcount_probability(double x, double a, double b) noexcept nogil
    double vcount_quantile(double p, double a, double b) noexcept nogil
    double vbeta_probability(double x, double a, double b) noexcept nogil
    double vbeta_quantile(double p, double a, double b) noexcept nogil

    # d: OUT (n,), a: IN (n,); d does not overlap a
    void vnormal_probability_block(double* d, const double* a, int n) noexcept nogil
    void vnormal_quantile_block(double* d, const double* a, int n) noexcept nogil
