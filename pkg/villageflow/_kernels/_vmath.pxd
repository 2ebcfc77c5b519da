"""Elementary functions that give the same bits on every instruction set.

Why.  A C library's exp or pow differs between versions, machines and vector widths, and a call to it keeps a
loop from being vectorised.  These functions use only IEEE-754 operations that every machine rounds alike
(+ - * /, sqrt, floor, comparisons, integer and bit operations) in a fixed order, so the source alone decides
the bits, provided that the compiler may not contract a*b + c (-ffp-contract=off, never -ffast-math) and
that rounding is to nearest.  A fused multiply-add is named, VM_EXACT, and only where the product is exact, so that
it and the two operations give the same bits.

How.  They are C in one verbatim block: choices are conditional expressions on values already computed, which
become vector selects.  Each function exists once; `v..._block` is a loop over the same inline function, so a
scalar call, a vector lane and the left-over lanes of a block agree.  exp and pow are chains of small inline stages:
their blocks run one loop for each stage, because a processor overlaps more elements of a short loop than of a long
one, leave out what only rare arguments need, and repeat the block with the whole function if there were any.
d must not overlap a or b.  Which of
two NaNs survives depends on operand order, which a compiler may swap: every NaN result is one canonical quiet
NaN.  Integers go to and from double by adding 1.5 * 2**52, since AVX2 has no instruction for it.

Methods.  Reduction by a constant in parts whose products with the integer are exact, then a polynomial.
  exp    x = k ln2 + r, |r| <= ln2/2; exp(r) = 1 + r + r^2 q(r), where 1 + r is kept as a sum of two doubles;
         2**k in two factors, so that results below the normal range are rounded, not flushed.
  log    x = 2**k m, m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f/(2 + f), z = s^2:
         log m = f - f^2/2 + s (f^2/2 + z R(z)); k ln2 + f as a sum of two.
  pow    log m = 2 s + 2 s u, u = z (1/3 + z Q(z)), with s, z and u as sums of two and the products that
         matter taken of 26-bit halves: about 66 good bits of log x and y log x; the low part enters exp by r.
  trig   pi/2 in four parts with error-free sums up to 2**20 quarter turns; beyond, the mantissa times the
         192 bits of 2/pi that decide quadrant and fraction, in integers.  r is a sum of two in both cases.
         tan is the quotient of the two-part sine and cosine.
  atan   three ranges, with (t - 1)/(t + 1) and -1/t.
  asin, acos    half-angle formula above 1/2 with a corrected square root.
  sinh, tanh    odd polynomial near zero, else from exp; sinh and cosh use the two parts of exp.

Sources.  The polynomials were computed for this file: in 80-digit arithmetic the remainder named beside each
(z is the square of the argument) is interpolated at as many Chebyshev nodes of the interval as there are
coefficients, and the monomial coefficients are rounded to double; `tests/kernel/test_vmath.py` repeats it.
The reductions follow Cody and Waite (1980) and Payne and Hanek (1983), two-part arithmetic Dekker (1971).
exp and pow group their terms in pairs, which shortens the chain of dependent operations.
"""

cdef extern from *:
    """
    #ifndef VILLAGEFLOW_VMATH
    #define VILLAGEFLOW_VMATH
    #include <stdint.h>
    #include <string.h>
    #include <float.h>
    #include <math.h>

    #if defined(__FAST_MATH__) || FLT_EVAL_METHOD < 0 || FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2
      #error "these functions need IEEE-754 arithmetic in double, without -ffast-math"
    #endif

    #if defined(__GNUC__)
      #define VM_FN static inline __attribute__((always_inline))
      #define VM_RESTRICT __restrict__
    #elif defined(_MSC_VER)
      #define VM_FN static __forceinline
      #define VM_RESTRICT __restrict
    #else
      #define VM_FN static inline
      #define VM_RESTRICT restrict
    #endif
    #if defined(__clang__)
      #pragma STDC FP_CONTRACT OFF
    #endif

    typedef struct { double hi, lo; } vm_pair;  /* value = hi + lo */

    VM_FN uint64_t vm_bits(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
    VM_FN double vm_from(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }
    VM_FN double vm_inf(void) { return vm_from(0x7ff0000000000000u); }
    VM_FN double vm_nan(void) { return vm_from(0x7ff8000000000000u); }
    VM_FN double vm_canonical(double x) { return x == x ? x : vm_nan(); }
    VM_FN double vm_flip(double y, double x)  /* -y where x is negative or -0 */
    {
        return vm_from(vm_bits(y) ^ (vm_bits(x) & 0x8000000000000000u));
    }
    VM_FN double vm_top(double x)  /* 26 bits: the product of two such numbers is exact */
    {
        return vm_from(vm_bits(x) & 0xfffffffff8000000u);
    }
    #if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
      #define VM_EXACT(a, b, c) __builtin_fma(a, b, c)  /* a b + c where a b is exact: the same bits either way */
    #else
      #define VM_EXACT(a, b, c) ((a) * (b) + (c))
    #endif
    VM_FN vm_pair vm_fast_sum(double a, double b)  /* a + b without error, if |a| >= |b| or a is 0 */
    {
        vm_pair r; r.hi = a + b; r.lo = b - (r.hi - a); return r;
    }
    VM_FN vm_pair vm_sum(double a, double b)  /* a + b without error */
    {
        vm_pair r; double c;
        r.hi = a + b; c = r.hi - a; r.lo = (a - (r.hi - c)) + (b - c); return r;
    }

    #define VM_MAGIC 0x1.8p52  /* x + MAGIC holds rint(x) in its low bits */
    #define VM_PIO2 0x1.921fb54442d18p+0
    #define VM_PIO2_LO 0x1.1a62633145c07p-54
    #define VM_PIO4 0x1.921fb54442d18p-1
    #define VM_PIO4_LO 0x1.1a62633145c07p-55

    /* ---- exp ---- */

    typedef struct { double rh, rl, t; } vm_exp_argument;  /* k ln2 + rh + rl, where t = k + MAGIC */
    typedef struct { double one_plus, tail, scale1, scale2; } vm_exp_parts;

    #define VM_EXP_PLAIN 700.0  /* up to here one factor of 2**k will do */

    VM_FN vm_exp_argument vm_exp_reduce(double hi, double lo)  /* hi + lo, |hi| < 800, otherwise garbage */
    {
        vm_exp_argument a; double k;
        a.t = hi * 0x1.71547652b82fep+0 + VM_MAGIC;
        k = a.t - VM_MAGIC;
        a.rh = VM_EXACT(-k, 0x1.62e42fefa3800p-1, hi);  /* exact: 42-bit ln2 times 11-bit k */
        a.rl = lo - k * 0x1.ef35793c76730p-45;
        return a;
    }
    VM_FN vm_pair vm_exp_sum(double rh, double rl)  /* exp(rh + rl) in two parts */
    {
        vm_pair s; double r = rh + rl, r2 = r * r, r4 = r2 * r2, p;
        /* (exp r - 1 - r)/r^2 on [-0.347, 0.348] */
        p = (0x1.27e4ca237a911p-22 + r * 0x1.af4f1fade02d4p-26) + r2 * 0x1.1f92d7a3808a4p-29;
        p = ((0x1.6c16c16c15348p-10 + r * 0x1.a01a01ac1751bp-13)
            + r2 * (0x1.a01a01ad4ed82p-16 + r * 0x1.71de019c05057p-19)) + r4 * p;
        p = ((0x1.0000000000000p-1 + r * 0x1.5555555555557p-3)
            + r2 * (0x1.5555555555557p-5 + r * 0x1.1111111110085p-7)) + r4 * p;
        s = vm_fast_sum(1.0, rh);
        s.lo = s.lo + (rl + r2 * p);
        return s;
    }
    VM_FN double vm_exp_scale(double t) { return vm_from((vm_bits(t) + 1023) << 52); }  /* low bits: the integer */
    /* exp(hi + lo) 2**shift = (one_plus + tail) scale1 scale2 */
    VM_FN vm_exp_parts vm_exp_split(double hi, double lo, double shift)
    {
        vm_exp_argument a = vm_exp_reduce(hi, lo); vm_pair s = vm_exp_sum(a.rh, a.rl); vm_exp_parts e;
        double k = (a.t - VM_MAGIC) + shift, t = k * 0.5 + VM_MAGIC;
        e.one_plus = s.hi;
        e.tail = s.lo;
        e.scale1 = vm_exp_scale(t);
        e.scale2 = vm_exp_scale((k - (t - VM_MAGIC)) + VM_MAGIC);
        return e;
    }
    VM_FN double vexp(double x)
    {
        double c = x > 720.0 ? 720.0 : x;
        vm_exp_parts e = vm_exp_split(c < -760.0 ? -760.0 : c, 0.0, 0.0);
        return vm_canonical((e.one_plus + e.tail) * e.scale1 * e.scale2);
    }

    /* ---- log, pow ---- */

    /* x = 2**k m > 0, finite: hi = m in [sqrt(1/2), sqrt(2)), lo = k, for a bias of 1023 and normal x */
    VM_FN vm_pair vm_split_normal(double x, double bias)
    {
        vm_pair r; uint64_t u = vm_bits(x) + 0x00095f619980c433u;  /* bits of 1 less those of sqrt(1/2) */
        r.lo = vm_from((u >> 52) | 0x4330000000000000u) - (0x1p52 + bias);
        r.hi = vm_from((u & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
        return r;
    }
    VM_FN vm_pair vm_split_exponent(double x)
    {
        int small = x < 0x1p-1022;
        return vm_split_normal(small ? x * 0x1p54 : x, small ? 1077.0 : 1023.0);
    }
    VM_FN double vlog(double x)
    {
        vm_pair e = vm_split_exponent(x), h; double f, s, z, q, p, y, k = e.lo;
        f = e.hi - 1.0;
        s = f / (2.0 + f);
        z = s * s;
        q = 0.5 * f * f;
        /* (2 atanh(s)/s - 2)/z on [0, 0.02945] */
        p = 0x1.7462b69705382p-3 + z * (0x1.39fe208c33457p-3 + z * 0x1.2b5b5fb2eac92p-3);
        p = 0x1.c71c62debf86bp-3 + z * p;
        p = 0x1.5555555555558p-1 + z * (0x1.99999999952b2p-2 + z * (0x1.2492492df6947p-2 + z * p));
        h = vm_fast_sum(k * 0x1.62e42fefa3800p-1, f);
        y = h.hi + (((h.lo + k * 0x1.ef35793c76730p-45) + s * (q + z * p)) - q);
        y = x == vm_inf() ? x : y;
        y = x > 0.0 ? y : (x == 0.0 ? -vm_inf() : vm_nan());
        return y;
    }
    VM_FN vm_pair vm_log_quotient(double m)  /* s = (m - 1)/(m + 1), hi in 26 bits */
    {
        vm_pair s; double f = m - 1.0, d = m + 1.0, dh = vm_top(d), dl, inv = 1.0 / d;  /* f is exact */
        dl = (d - dh) + (m - (d - 1.0));
        s.hi = vm_top(f * inv);
        s.lo = (VM_EXACT(-s.hi, dh, f) - s.hi * dl) * inv;
        return s;
    }
    VM_FN double vm_square_tail(vm_pair s) { return s.lo * (s.hi + (s.hi + s.lo)); }  /* of s^2, beside s.hi^2 */
    VM_FN double vm_log_series(vm_pair s)  /* z Q(z), z = s^2 */
    {
        double t = s.hi * s.hi + vm_square_tail(s), t2 = t * t, p;
        /* (atanh(s)/s - 1 - z/3)/z^2 on [0, 0.02945] */
        p = (0x1.1118c9ee5b8a4p-4 + t * 0x1.df7c5bc7c7563p-5) + t2 * 0x1.e032e4d8436a1p-5;
        p = (0x1.2492492492522p-3 + t * 0x1.c71c71c6ea871p-4)
            + t2 * ((0x1.745d177aad02ap-4 + t * 0x1.3b1395c881220p-4) + t2 * p);
        p = 0x1.999999999999ap-3 + t * p;
        return t * p;
    }
    VM_FN vm_pair vm_log_sum(double k, vm_pair s, double t)  /* k ln2 + 2 s (1 + z (1/3 + t)) */
    {
        vm_pair h1, h2; double zh = s.hi * s.hi, zl = vm_square_tail(s), sh, sl, w, wl, zt, wt, ur, uh, ul;
        w = 0x1.5555555555555p-2 + t;  /* w = 1/3 + z Q */
        wl = ((0x1.5555555555555p-2 - w) + t) + 0x1.5555555555555p-56;
        zt = vm_top(zh); wt = vm_top(w);
        ur = zt * ((w - wt) + wl) + ((zh - zt) + zl) * w;  /* u = z w = zt wt + ur, the product exact */
        uh = vm_top(VM_EXACT(zt, wt, ur));
        ul = VM_EXACT(zt, wt, -uh) + ur;
        sh = s.hi + s.hi; sl = s.lo + s.lo;
        h1 = vm_fast_sum(k * 0x1.62e42fefa3800p-1, sh);
        h2.hi = VM_EXACT(sh, uh, h1.hi);  /* h1.hi + sh uh without error */
        h2.lo = VM_EXACT(sh, uh, -(h2.hi - h1.hi));
        t = sl + (sh * ul + sl * (uh + ul));
        return vm_fast_sum(h2.hi, h1.lo + (h2.lo + (k * 0x1.ef35793c76730p-45 + t)));
    }
    typedef struct { double p; vm_pair sum; } vm_product;
    VM_FN vm_product vm_times_log(double y, vm_pair l)  /* y (l.hi + l.lo); p to 25 bits, NaN only for log 0 or y 0 */
    {
        vm_product r; double yt = vm_top(y), lt = vm_top(l.hi), lo;
        r.p = yt * lt;
        lo = yt * ((l.hi - lt) + l.lo) + (y - yt) * l.hi;
        r.sum.hi = r.p + lo;
        r.sum.lo = lo - (r.sum.hi - r.p);
        return r;
    }
    VM_FN double vpow(double x, double y)
    {
        double ax = fabs(x), r, half = 0.5 * y;
        int whole = floor(y) == y, odd = whole & (floor(half) != half);
        vm_pair m = vm_split_exponent(ax), s = vm_log_quotient(m.hi), l = vm_log_sum(m.lo, s, vm_log_series(s));
        vm_product q = vm_times_log(y, l);
        vm_exp_parts e = vm_exp_split(q.sum.hi, q.sum.lo, 0.0);
        r = (e.one_plus + e.tail) * e.scale1 * e.scale2;
        r = q.p > 720.0 ? vm_inf() : r;  /* limiting the sum instead would lengthen the chain */
        r = q.p < -750.0 ? 0.0 : r;
        r = ax == 1.0 ? 1.0 : r;
        r = (ax == 0.0) | (ax == vm_inf()) ? (((ax == 0.0) ^ (y < 0.0)) ? 0.0 : vm_inf()) : r;
        r = odd ? vm_flip(r, x) : r;
        r = (x < 0.0) & (x != -vm_inf()) & !whole ? vm_nan() : r;
        r = isunordered(x, y) ? vm_nan() : r;
        return (y == 0.0) | (x == 1.0) ? 1.0 : r;
    }

    /* ---- sin, cos, tan ---- */

    typedef struct { double hi, lo; uint64_t quadrant; } vm_angle;
    typedef struct { vm_pair s, c; } vm_sincos;

    #define VM_ANGLE_MAX 0x1.9p20  /* below 2**20 quarter turns */

    VM_FN vm_angle vm_reduce(double x)  /* 0 <= x <= VM_ANGLE_MAX */
    {
        vm_angle r; vm_pair a, b, c; double t = x * 0x1.45f306dc9c883p-1 + VM_MAGIC, n = t - VM_MAGIC;
        r.quadrant = vm_bits(t);
        t = x - n * 0x1.921fb54400000p+0;  /* exact, as are the next two products: parts of 33 bits */
        a = vm_sum(t, -(n * 0x1.0b4611a600000p-34));
        b = vm_sum(a.hi, -(n * 0x1.3198a2e000000p-69));
        c = vm_sum(b.hi, a.lo);
        b = vm_fast_sum(c.hi, c.lo + (b.lo - n * 0x1.b839a252049c1p-104));
        r.hi = b.hi; r.lo = b.lo;
        return r;
    }
    static inline vm_angle vm_reduce_huge(double x)  /* x > VM_ANGLE_MAX, finite; scalar, rare */
    {
        static const uint32_t two_over_pi[] = {  /* bits of 2/pi after 64 zeros */
            0u, 0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u,
            0x3c439041u, 0xfe5163abu, 0xdebbc561u, 0xb7246e3au, 0x424dd2e0u, 0x06492eeau, 0x09d1921cu,
            0xfe1deb1cu, 0xb129a73eu, 0xe88235f5u, 0x2ebb4484u, 0xe99c7026u, 0xb45f7e41u, 0x3991d639u,
            0x835339f4u, 0x9c845f8bu, 0xbdf9283bu, 0x1ff897ffu, 0xde05980fu, 0xef2f118bu, 0x5a0a6d1fu,
            0x6d367ecfu, 0x27cb09b7u, 0x4f463f66u, 0x9e5fea2du, 0x7527bac7u, 0xebe5f17bu, 0x3d0739f7u,
            0x8a5292eau, 0x6bfb5fb1u, 0x1f8d5d08u, 0x56033046u, 0xfc7b6babu};
        const uint64_t bits = vm_bits(x), m = (bits & 0x000fffffffffffffu) | 0x0010000000000000u;
        const uint64_t part[2] = {m & 0xffffffffu, m >> 32};
        const int start = (int)(bits >> 52) - 1075 + 62, word = start >> 5, up = start & 31;
        /* x times 2/pi modulo 4: digits of 32 bits, least first; 2 bits of quadrant, 190 of fraction */
        uint64_t prod[6] = {0, 0, 0, 0, 0, 0}, carry;
        vm_angle r; vm_pair f; double weight = 0x1p-30, sign = 1.0, ph, pl, ft;
        int i, j;
        for (j = 0; j < 2; j++) {
            carry = 0;
            for (i = 0; i + j < 6; i++) {
                const int w = word + 5 - i;
                const uint64_t two = ((uint64_t)two_over_pi[w] << 32) | two_over_pi[w + 1];
                carry += part[j] * ((two >> (32 - up)) & 0xffffffffu) + prod[i + j];
                prod[i + j] = carry & 0xffffffffu;
                carry >>= 32;
            }
        }
        r.quadrant = prod[5] >> 30;
        if (prod[5] & 0x20000000u) {  /* fraction >= 1/2: next quadrant, minus the complement */
            r.quadrant++;
            sign = -1.0;
            carry = 1;
            for (i = 0; i < 6; i++) {
                carry += prod[i] ^ 0xffffffffu;
                prod[i] = carry & 0xffffffffu;
                carry >>= 32;
            }
        }
        prod[5] &= 0x3fffffffu;
        f.hi = f.lo = 0.0;
        for (i = 5; i >= 0; i--, weight *= 0x1p-32) {
            vm_pair s = vm_fast_sum(f.hi, (double)prod[i] * weight);
            f.hi = s.hi; f.lo += s.lo;
        }
        f = vm_fast_sum(f.hi, f.lo);
        ft = vm_top(f.hi);  /* times pi/2, its leading part in 26 bits */
        ph = ft * 0x1.921fb50000000p+0;
        pl = ft * 0x1.110b4611a6263p-26 + ((f.hi - ft) + f.lo) * VM_PIO2;
        f = vm_fast_sum(ph, pl);
        r.hi = sign * f.hi; r.lo = sign * f.lo;
        return r;
    }
    VM_FN vm_sincos vm_sincos_pair(vm_angle a)  /* |a| <= pi/4, quadrant ignored */
    {
        vm_sincos r; double z = a.hi * a.hi, hz = 0.5 * z, p, w;
        /* (sin(r)/r - 1)/z on [0, 0.6175] */
        p = 0x1.71de379452125p-19 + z * (-0x1.ae6008b321baep-26 + z * 0x1.5e0a44fa8765ap-33);
        p = -0x1.5555555555555p-3 + z * (0x1.1111111110babp-7 + z * (-0x1.a01a019e81f4bp-13 + z * p));
        r.s = vm_fast_sum(a.hi, a.hi * (z * p) + (a.lo - hz * a.lo));
        /* (cos r - 1 + z/2)/z^2 on [0, 0.6175] */
        p = -0x1.27e4fa16bdc76p-22 + z * (0x1.1eeb67c12a0b4p-29 + z * -0x1.907cce35dd891p-37);
        p = 0x1.5555555555555p-5 + z * (-0x1.6c16c16c16963p-10 + z * (0x1.a01a019f4dd4cp-16 + z * p));
        w = 1.0 - hz;
        r.c = vm_fast_sum(w, ((1.0 - w) - hz) + (z * z * p - a.hi * a.lo));
        return r;
    }
    VM_FN double vm_sin_of(vm_angle a, uint64_t turn)  /* turn 0: sine, 1: cosine */
    {
        vm_sincos r = vm_sincos_pair(a); uint64_t q = a.quadrant + turn;
        double y = (q & 1) ? r.c.hi : r.s.hi;
        return vm_from(vm_bits(y) ^ ((q & 2) << 62));
    }
    VM_FN double vm_tan_of(vm_angle a)
    {
        vm_sincos r = vm_sincos_pair(a); double nh, nl, dh, dl, inv, q, qt, dt;
        uint64_t odd = a.quadrant & 1;
        nh = odd ? r.c.hi : r.s.hi; nl = odd ? r.c.lo : r.s.lo;
        dh = odd ? -r.s.hi : r.c.hi; dl = odd ? -r.s.lo : r.c.lo;
        inv = 1.0 / dh;
        q = nh * inv; qt = vm_top(q); dt = vm_top(dh);  /* one correction of the quotient */
        return qt + (((nh - qt * dt) - qt * (dh - dt)) + (nl - qt * dl)) * inv;
    }
    VM_FN double vm_sin_small(double x) { return vm_canonical(vm_flip(vm_sin_of(vm_reduce(fabs(x)), 0), x)); }
    VM_FN double vm_cos_small(double x) { return vm_canonical(vm_sin_of(vm_reduce(fabs(x)), 1)); }
    VM_FN double vm_tan_small(double x)
    {
        double t = fabs(x), y = vm_tan_of(vm_reduce(t));
        return vm_canonical(vm_flip(t < 0x1p-27 ? t : y, x));  /* the correction must not meet subnormals */
    }
    static inline double vsin(double x)
    {
        const double t = fabs(x);
        if (!(t > VM_ANGLE_MAX)) return vm_sin_small(x);
        return t == vm_inf() ? vm_nan() : vm_flip(vm_sin_of(vm_reduce_huge(t), 0), x);
    }
    static inline double vcos(double x)
    {
        const double t = fabs(x);
        if (!(t > VM_ANGLE_MAX)) return vm_cos_small(x);
        return t == vm_inf() ? vm_nan() : vm_sin_of(vm_reduce_huge(t), 1);
    }
    static inline double vtan(double x)
    {
        const double t = fabs(x);
        if (!(t > VM_ANGLE_MAX)) return vm_tan_small(x);
        return t == vm_inf() ? vm_nan() : vm_flip(vm_tan_of(vm_reduce_huge(t)), x);
    }

    /* ---- inverse and hyperbolic functions ---- */

    VM_FN double vatan(double x)
    {
        double t = fabs(x), num, den, base, low, a, z, p;
        int mid = t > 0.5, far = t > 2.0;  /* so t - 1 is exact */
        num = far ? -1.0 : (mid ? t - 1.0 : t);
        den = far ? t : (mid ? t + 1.0 : 1.0);
        base = far ? VM_PIO2 : (mid ? VM_PIO4 : 0.0);
        low = far ? VM_PIO2_LO : (mid ? VM_PIO4_LO : 0.0);
        a = num / den;
        z = a * a;
        /* (atan(a)/a - 1)/z on [0, 0.25] */
        p = -0x1.37d750492dd9bp-5 + z * (0x1.99b4e0c058248p-6 + z * -0x1.2dfbaab9786efp-7);
        p = 0x1.7b20b751c966ap-5 + z * p;
        p = -0x1.110ea50256abfp-4 + z * (0x1.e1a7b2562efc5p-5 + z * (-0x1.ad44da04adea3p-5 + z * p));
        p = 0x1.c71c71c01b24cp-4 + z * (-0x1.745d16026efd7p-4 + z * (0x1.3b138e6372dcap-4 + z * p));
        p = -0x1.5555555555555p-2 + z * (0x1.99999999998e1p-3 + z * (-0x1.2492492488296p-3 + z * p));
        return vm_canonical(vm_flip(base + (a + (low + a * (z * p))), x));
    }
    /* For t <= 1/2, r = asin(t)/t - 1.  Otherwise s = sh + c = sqrt((1 - t)/2) and r = asin(s)/s - 1. */
    typedef struct { double r, s, sh, c; } vm_half_angle;
    VM_FN vm_half_angle vm_asin_parts(double t)
    {
        vm_half_angle h; double p, z = t > 0.5 ? (1.0 - t) * 0.5 : t * t;
        /* (asin(x)/x - 1)/z on [0, 0.25] */
        p = 0x1.1d189408314eep-6 + z * (-0x1.e6aaa8a0a04ccp-7 + z * 0x1.d72b2bc8155f8p-6);
        p = 0x1.65a9c4dfcf8b2p-8 + z * p;
        p = 0x1.c9cf07674736ap-7 + z * (0x1.782651caa6547p-7 + z * (0x1.52420b04b37bep-7 + z * p));
        p = 0x1.f1c71c1db0623p-6 + z * (0x1.6e8bb1c8209a2p-6 + z * (0x1.1c4d35cf95421p-6 + z * p));
        p = 0x1.5555555555556p-3 + z * (0x1.3333333332ecap-4 + z * (0x1.6db6db6e31f13p-5 + z * p));
        h.r = z * p;
        h.s = sqrt(z);
        h.sh = vm_top(h.s);
        h.c = (z - h.sh * h.sh) / ((h.s + h.sh) + 0x1p-1000);  /* the last term only avoids 0/0 */
        return h;
    }
    VM_FN double vasin(double x)
    {
        double t = fabs(x), y; vm_half_angle h = vm_asin_parts(t);
        y = VM_PIO4 - ((2.0 * h.s * h.r - (VM_PIO2_LO - 2.0 * h.c)) - (VM_PIO4 - 2.0 * h.sh));
        return vm_canonical(vm_flip(t > 0.5 ? y : t + t * h.r, x));
    }
    VM_FN double vacos(double x)
    {
        double t = fabs(x), y; vm_half_angle h = vm_asin_parts(t);
        y = x < 0.0 ? 2.0 * (VM_PIO2 - (h.s + (h.s * h.r - VM_PIO2_LO))) : 2.0 * (h.sh + (h.c + h.s * h.r));
        return vm_canonical(t > 0.5 ? y : VM_PIO2 - (x - (VM_PIO2_LO - x * h.r)));
    }
    /* hi + lo = exp(t)/2, t >= 0; at the limit of 711 hi overflows and lo does not */
    VM_FN vm_pair vm_half_exp(double t)
    {
        vm_exp_parts e = vm_exp_split(t > 711.0 ? 711.0 : t, 0.0, -1.0); vm_pair r;
        r.hi = e.one_plus * e.scale1 * e.scale2;
        r.lo = e.tail * e.scale1 * e.scale2;
        return r;
    }
    VM_FN double vsinh(double x)
    {
        double t = fabs(x), z = t * t, p; vm_pair e = vm_half_exp(t);
        /* (sinh(t)/t - 1)/z on [0, 1] */
        p = 0x1.ae777c36fd5b6p-41 + z * 0x1.99f0806c2628dp-49;
        p = 0x1.71de3a556f96cp-19 + z * (0x1.ae6456792a77fp-26 + z * (0x1.612467ccb2260p-33 + z * p));
        p = 0x1.5555555555555p-3 + z * (0x1.1111111111111p-7 + z * (0x1.a01a01a01a001p-13 + z * p));
        return vm_canonical(vm_flip(t < 1.0 ? t + t * (z * p) : e.hi + (e.lo - 0.25 / (e.hi + e.lo)), x));
    }
    VM_FN double vcosh(double x)
    {
        vm_pair e = vm_half_exp(fabs(x));
        return vm_canonical(e.hi + (e.lo + 0.25 / (e.hi + e.lo)));
    }
    VM_FN double vtanh(double x)
    {
        double t = fabs(x), z = t * t, p, y, c = t > 25.0 ? 25.0 : t;
        vm_exp_parts e = vm_exp_split(c + c, 0.0, 0.0);
        y = 1.0 - 2.0 / ((e.one_plus + e.tail) * e.scale1 * e.scale2 + 1.0);
        /* (tanh(t)/t - 1)/z on [0, 0.3025] */
        p = 0x1.64fd88e9900a5p-14 + z * -0x1.59a834187ce22p-16;
        p = -0x1.7d97cfd138c28p-10 + z * (0x1.34c5a8a996cd4p-11 + z * (-0x1.ec1091436eb2ap-13 + z * p));
        p = 0x1.664f487713373p-6 + z * (-0x1.226e32f00cf0cp-7 + z * (0x1.d6d339333f329p-9 + z * p));
        p = -0x1.5555555555555p-2 + z * (0x1.1111111111032p-3 + z * (-0x1.ba1ba1b9fec84p-5 + z * p));
        return vm_canonical(vm_flip(t < 0.55 ? t + t * (z * p) : y, x));
    }

    /* ---- blocks ---- */

    #define VM_BLOCK(name) \\
        static inline void name##_block(double *VM_RESTRICT d, const double *VM_RESTRICT a, int n) \\
        { \\
            for (int i = 0; i < n; i++) d[i] = name(a[i]); \\
        }
    #define VM_ANGLE_BLOCK(name, name_small) \\
        static inline void name##_block(double *VM_RESTRICT d, const double *VM_RESTRICT a, int n) \\
        { \\
            uint64_t huge = 0; \\
            for (int i = 0; i < n; i++) { \\
                huge |= fabs(a[i]) > VM_ANGLE_MAX ? 1u : 0u; \\
                d[i] = name_small(a[i]); \\
            } \\
            if (huge) for (int i = 0; i < n; i++) if (fabs(a[i]) > VM_ANGLE_MAX) d[i] = name(a[i]); \\
        }
    VM_BLOCK(vlog) VM_BLOCK(vatan) VM_BLOCK(vasin) VM_BLOCK(vacos)
    VM_BLOCK(vsinh) VM_BLOCK(vcosh) VM_BLOCK(vtanh)
    VM_ANGLE_BLOCK(vsin, vm_sin_small) VM_ANGLE_BLOCK(vcos, vm_cos_small) VM_ANGLE_BLOCK(vtan, vm_tan_small)
    #define VM_PART 64  /* elements that pass through the stages together */
    #define VM_FEW 8  /* so few elements do not wait for stores and loads between stages */
    static inline void vexp_block(double *VM_RESTRICT d, const double *VM_RESTRICT a, int n)
    {
        double rh[VM_PART], rl[VM_PART], t[VM_PART];
        for (; n > 0; n -= VM_PART, a += VM_PART, d += VM_PART) {
            const int m = n < VM_PART ? n : VM_PART;
            uint64_t rare = 0;
            for (int i = 0; i < m; i++) {
                vm_exp_argument r = vm_exp_reduce(a[i], 0.0);
                rare |= fabs(a[i]) <= VM_EXP_PLAIN ? 0u : 1u;
                rh[i] = r.rh; rl[i] = r.rl; t[i] = r.t;
            }
            for (int i = 0; i < m; i++) {
                vm_pair s = vm_exp_sum(rh[i], rl[i]);
                d[i] = (s.hi + s.lo) * vm_exp_scale(t[i]);
            }
            if (rare) for (int i = 0; i < m; i++) d[i] = vexp(a[i]);
        }
    }
/* x normal and positive with x^y normal, or x = 0 and y > 0; p is the product in vm_times_log */
    VM_FN int vm_pow_is_plain(double x, double y, double p)
    {
        uint64_t u = vm_bits(x);
        int normal = (u - 0x0010000000000000u < 0x7fe0000000000000u) & (fabs(p) <= VM_EXP_PLAIN);
        return normal | ((u == 0) & (y > 0.0));
    }
    static inline void vpow_block(
        double *VM_RESTRICT d, const double *VM_RESTRICT a, const double *VM_RESTRICT b, int n)
    {
        double k[VM_PART], t[VM_PART], hi[VM_PART], lo[VM_PART];
        for (; n > 0; n -= VM_PART, a += VM_PART, b += VM_PART, d += VM_PART) {
            const int m = n < VM_PART ? n : VM_PART;
            uint64_t rare = 0;
            if (m <= VM_FEW) {
                for (int i = 0; i < m; i++) {
                    vm_pair x = vm_split_normal(a[i], 1023.0), s = vm_log_quotient(x.hi), e;
                    vm_product q = vm_times_log(b[i], vm_log_sum(x.lo, s, vm_log_series(s)));
                    vm_exp_argument r = vm_exp_reduce(q.sum.hi, q.sum.lo);
                    rare |= vm_pow_is_plain(a[i], b[i], q.p) ? 0u : 1u;
                    e = vm_exp_sum(r.rh, r.rl);
                    d[i] = vm_bits(a[i]) == 0 ? 0.0 : (e.hi + e.lo) * vm_exp_scale(r.t);
                }
                if (rare) for (int i = 0; i < m; i++) d[i] = vpow(a[i], b[i]);
                continue;
            }
            for (int i = 0; i < m; i++) {
                vm_pair x = vm_split_normal(a[i], 1023.0), s = vm_log_quotient(x.hi);
                k[i] = x.lo; hi[i] = s.hi; lo[i] = s.lo;
            }
            for (int i = 0; i < m; i++) { vm_pair s = {hi[i], lo[i]}; t[i] = vm_log_series(s); }
            for (int i = 0; i < m; i++) {
                vm_pair s = {hi[i], lo[i]}, l = vm_log_sum(k[i], s, t[i]);
                hi[i] = l.hi; lo[i] = l.lo;
            }
            for (int i = 0; i < m; i++) {
                vm_pair l = {hi[i], lo[i]}; vm_product q = vm_times_log(b[i], l);
                vm_exp_argument r = vm_exp_reduce(q.sum.hi, q.sum.lo);
                rare |= vm_pow_is_plain(a[i], b[i], q.p) ? 0u : 1u;
                hi[i] = r.rh; lo[i] = r.rl; t[i] = r.t;
            }
            for (int i = 0; i < m; i++) {
                vm_pair s = vm_exp_sum(hi[i], lo[i]);
                d[i] = vm_bits(a[i]) == 0 ? 0.0 : (s.hi + s.lo) * vm_exp_scale(t[i]);
            }
            if (rare) for (int i = 0; i < m; i++) d[i] = vpow(a[i], b[i]);
        }
    }
    #endif
    """
    double vexp(double x) noexcept nogil
    double vlog(double x) noexcept nogil
    double vsin(double x) noexcept nogil
    double vcos(double x) noexcept nogil
    double vtan(double x) noexcept nogil
    double vasin(double x) noexcept nogil
    double vacos(double x) noexcept nogil
    double vatan(double x) noexcept nogil
    double vsinh(double x) noexcept nogil
    double vcosh(double x) noexcept nogil
    double vtanh(double x) noexcept nogil
    double vpow(double x, double y) noexcept nogil

    # d: OUT (n,), a and b: IN (n,); d overlaps neither
    void vexp_block(double* d, const double* a, int n) noexcept nogil
    void vlog_block(double* d, const double* a, int n) noexcept nogil
    void vsin_block(double* d, const double* a, int n) noexcept nogil
    void vcos_block(double* d, const double* a, int n) noexcept nogil
    void vtan_block(double* d, const double* a, int n) noexcept nogil
    void vasin_block(double* d, const double* a, int n) noexcept nogil
    void vacos_block(double* d, const double* a, int n) noexcept nogil
    void vatan_block(double* d, const double* a, int n) noexcept nogil
    void vsinh_block(double* d, const double* a, int n) noexcept nogil
    void vcosh_block(double* d, const double* a, int n) noexcept nogil
    void vtanh_block(double* d, const double* a, int n) noexcept nogil
    void vpow_block(double* d, const double* a, const double* b, int n) noexcept nogil
