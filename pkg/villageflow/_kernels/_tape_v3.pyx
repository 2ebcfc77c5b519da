# The tape built for x86-64-v3 (AVX2).
include "_tape.pxi"
