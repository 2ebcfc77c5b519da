"""Compiled code: vector math, and the tape built once for each instruction set."""


class KernelsMissingError(ImportError):
    """The compiled modules are not there."""


try:
    from villageflow._kernels import _cpu, _vmath  # noqa: F401
except ImportError as error:
    raise KernelsMissingError(
        f"the compiled kernels of villageflow cannot be loaded ({error}); build them with: pip install -e . "
        "(a C compiler is needed)"
    ) from None
