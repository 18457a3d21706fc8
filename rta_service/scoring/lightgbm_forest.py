"""LightGBM's own scorer: the reference that any faster forest must agree with.

It calls the library's C entry for matrices directly: `Booster.predict` spends 35 microseconds on a
row, of which the trees of a small model take 5; this takes 10 and gives the same bits.
"""

import ctypes
import importlib
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

# the C library has no public name; found by name because the stubs do not export it
_LIBRARY: Final[Any] = importlib.import_module("lightgbm.basic")._LIB  # noqa: SLF001 - as above

_FLOAT64: Final = 1  # C_API_DTYPE_FLOAT64
_ROW_MAJOR: Final = 1
_NORMAL: Final = 0  # C_API_PREDICT_NORMAL: probabilities
_ALL_TREES: Final = (0, -1)
_ONE_THREAD: Final = b"num_threads=1"


class LightGBMForest:
    """A booster that scores on the calling thread only.

    One thread a process: decision workers scale by processes, and OpenMP's start costs more than
    a batch of a few rows.
    """

    def __init__(self, text: str) -> None:
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from error
        self.feature_names = tuple(self._booster.feature_name())
        self._columns = len(self.feature_names)

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give raw probabilities [n] for features float64 [n, F], NaN where missing.

        Raises ValueError for another shape, since the C side would read past the end.
        """
        rows = np.ascontiguousarray(matrix, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self._columns:  # noqa: PLR2004 - a matrix
            raise ValueError(f"features of shape {rows.shape}, not [n, {self._columns}]")
        result = np.empty(len(rows), dtype=np.float64)
        written = ctypes.c_int64(0)
        failed = _LIBRARY.LGBM_BoosterPredictForMat(
            self._booster._handle,  # noqa: SLF001 - the C entry takes the booster's own handle
            ctypes.c_void_p(rows.ctypes.data),
            _FLOAT64,
            len(rows),
            self._columns,
            _ROW_MAJOR,
            _NORMAL,
            *_ALL_TREES,
            _ONE_THREAD,
            ctypes.byref(written),
            ctypes.c_void_p(result.ctypes.data),
        )
        if failed or written.value != len(rows):
            raise ValueError("LightGBM could not score these rows")
        return result

    def predict_plainly(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Do the same through `Booster.predict`: the plain twin."""
        return np.asarray(self._booster.predict(matrix, num_threads=1), dtype=np.float64)
