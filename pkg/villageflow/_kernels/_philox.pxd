"""Philox 4x32-10: random numbers as a function of what they are for, not of what was drawn before.

A generator with a state would make a member's numbers depend on who ran before it.  Philox is a keyed permutation
of a 128-bit counter: ten rounds of two 32-bit products.  Here the key names the stream (a random call of the model
and the seed of the run), the counter names the use of it:

  word 0  step                     word 2  entity of a panel, 0 so far
  word 1  member                   word 3  the call's own seed argument, folded to 32 bits

so equal uses give equal numbers whatever else runs.  The 52 leading bits of the first two words become a number in
the open interval (0, 1): an odd multiple of 2**-53, never 0, 1/2 or 1, as likely as its distance from 1.

Source.  J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC11 (2011), https://doi.org/10.1145/2063384.2063405; constants and test vectors are theirs.
"""

cdef extern from *:
    """
    #ifndef VILLAGEFLOW_PHILOX
    #define VILLAGEFLOW_PHILOX
    #include <stdint.h>
    #include <string.h>
    #include <math.h>

    static inline void philox(uint32_t c[4], uint32_t k0, uint32_t k1)
    {
        for (int round = 0; round < 10; round++) {
            const uint64_t a = (uint64_t)0xd2511f53u * c[0], b = (uint64_t)0xcd9e8d57u * c[2];
            const uint32_t c1 = c[1], c3 = c[3];
            c[0] = (uint32_t)(b >> 32) ^ c1 ^ k0;
            c[1] = (uint32_t)b;
            c[2] = (uint32_t)(a >> 32) ^ c3 ^ k1;
            c[3] = (uint32_t)a;
            k0 += 0x9e3779b9u;
            k1 += 0xbb67ae85u;
        }
    }
    /* one number for each member; one that is not a number where the seed argument is none */
    static inline void philox_block(
        double *d, const double *seed, const long long *member, long long step, const unsigned int *key, int n)
    {
        for (int i = 0; i < n; i++) {
            const double argument = seed[i] == 0.0 ? 0.0 : seed[i];  /* -0 is 0 */
            uint64_t fold, bits; double u;
            uint32_t c[4];
            memcpy(&fold, &argument, 8);
            c[0] = (uint32_t)step;
            c[1] = (uint32_t)member[i];
            c[2] = 0;
            c[3] = (uint32_t)(fold >> 32) ^ (uint32_t)fold;
            philox(c, key[0], key[1]);
            bits = 0x3ff0000000000000u | ((uint64_t)c[0] << 20) | (c[1] >> 12);
            memcpy(&u, &bits, 8);
            d[i] = argument == argument ? (u - 1.0) + 0x1p-53 : NAN;
        }
    }
    #endif
    """
    void philox(unsigned int* counter, unsigned int k0, unsigned int k1) noexcept nogil

    # d: OUT (n,), seed and member: IN (n,); key: IN (2,)
    void philox_block(double* d, const double* seed, const long long* member, long long step,
                      const unsigned int* key, int n) noexcept nogil
