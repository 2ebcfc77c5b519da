"""Where the random numbers of a run come from: keys of streams, and the generator in plain Python.

The kernel's generator and what its counter holds are described in ``_kernels/_philox.pxd``; this is its readable
twin.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_WORD = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class Noise:
    """The random numbers of a run, and what is supplied in their place.

    Attributes
    ----------
    seed : int
        Of every stream; 0 or more.
    members : (n_members,) int64 array or None
        Positions of the members in their design; None counts from 0.
    given : mapping of str to (n_steps + 1, n_members or 1) float64 array
        Variables that take these values, one for each step, instead of their equations.
    """

    seed: int = 0
    members: npt.NDArray[np.int64] | None = None
    given: Mapping[str, Floats] = field(default_factory=dict)

    def of(self, members: npt.NDArray[np.int64]) -> Noise:
        """The same noise for some of the members, by their place in this run."""
        given = {name: values if values.shape[1] == 1 else values[:, members] for name, values in self.given.items()}
        return replace(self, members=members if self.members is None else self.members[members], given=given)

    def member(self, position: int) -> int:
        """Number of the member at a place of this run."""
        return position if self.members is None else int(self.members[position])


def stream_keys(seed: int, streams: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Keys of streams: the first 64 bits of SHA-256 over the seed and the stream's name.

    Returns
    -------
    (n_streams, 2) uint32 array
    """
    digests = [hashlib.sha256(f"{seed} {stream}".encode()).digest() for stream in streams]
    return np.array([struct.unpack("<2I", digest[:8]) for digest in digests], dtype=np.uint32).reshape(-1, 2)


def uniform(key: Sequence[int], member: int, step: int, argument: float) -> float:
    """The number in (0, 1) of a stream at a step for a member; not a number where the call's own seed is none."""
    if argument != argument:
        return argument
    low, high = struct.unpack("<2I", struct.pack("<d", argument + 0.0))  # -0 + 0 is 0
    first, second, *_ = philox((step & _WORD, member & _WORD, 0, low ^ high), (int(key[0]), int(key[1])))
    return ((first << 20 | second >> 12) * 2 + 1) * 2.0**-53


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox 4x32-10: four words of random bits for a counter under a key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = b >> 32 ^ c1 ^ k0, b & _WORD, a >> 32 ^ c3 ^ k1, a & _WORD
        k0, k1 = k0 + 0x9E3779B9 & _WORD, k1 + 0xBB67AE85 & _WORD
    return c0, c1, c2, c3
