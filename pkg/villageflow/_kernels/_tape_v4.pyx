include "_tape.pxi"
