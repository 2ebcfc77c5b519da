# x86-64-v2: the same functions as the portable build.
from villageflow._kernels._tape_base import run_adaptive_block as run_adaptive_block
from villageflow._kernels._tape_base import run_block as run_block
