# The tape built for x86-64-v4 (AVX-512).
include "_tape.pxi"
