# Any processor.
import numpy as np
import numpy.typing as npt

def run_block(
    code: npt.NDArray[np.int32],
    bounds: npt.NDArray[np.int32],
    scalars: npt.NDArray[np.float64],
    parameters: npt.NDArray[np.float64],
    parameter_slots: npt.NDArray[np.int32],
    stock_slots: npt.NDArray[np.int32],
    flow_slots: npt.NDArray[np.int32],
    non_negative: npt.NDArray[np.int32],
    delays: npt.NDArray[np.int32],
    save_slots: npt.NDArray[np.int32],
    lists: npt.NDArray[np.int32],
    table_offsets: npt.NDArray[np.int32],
    table_points: npt.NDArray[np.float64],
    table_below: npt.NDArray[np.float64],
    grid_scalars: npt.NDArray[np.float64],
    n_steps: int,
    rk4: bool,
    save_steps: npt.NDArray[np.int64],
    out: npt.NDArray[np.float64],
    healthy: npt.NDArray[np.uint8],
    first: int,
    n: int,
    stride: int,
    registers: npt.NDArray[np.float64],
    scalar_work: npt.NDArray[np.float64],
    stage_work: npt.NDArray[np.float64],
    delay_work: npt.NDArray[np.float64],
    delay_lengths: npt.NDArray[np.int64],
) -> int: ...
