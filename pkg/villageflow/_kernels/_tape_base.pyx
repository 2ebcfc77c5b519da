# The tape built for any processor.
include "_tape.pxi"
