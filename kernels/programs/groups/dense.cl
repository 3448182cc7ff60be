// For devices whose work-items are lanes of a wide machine: a work-group of 16 × 16 items computes a tile of ROWS rows
// by one panel, STEP inputs at a time through local memory, each item a block of (ROWS / 16) × (PANEL / 16) in
// registers. Included once for each ROWS, a multiple of 16.
#define ITEM_ROWS (ROWS / 16)
#define ITEM_COLUMNS (PANEL / 16)
#define STEP 16

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void KERNEL(dense)(__global const float *restrict x, __global const float *restrict weights,
                   __global const float *restrict bias, __global float *restrict y, const uint rows, const uint inputs,
                   const uint panels, const uint x_stride, const uint y_stride, const uint rectify)
{
    // One column more than a row of the tile holds: neighbouring items then write to different banks.
    __local float x_tile[STEP][ROWS + 1];
    __local float w_tile[STEP][PANEL];
    const uint item = get_local_id(0);
    const uint across = item % 16;
    const uint down = item / 16;
    const uint2 where = tile_and_panel(get_group_id(0), (rows + ROWS - 1) / ROWS, panels);
    const uint first = where.x * ROWS;
    __global const float *restrict panel = weights + (size_t)where.y * inputs * PANEL;

    float sums[ITEM_ROWS][ITEM_COLUMNS];
    for (uint r = 0; r < ITEM_ROWS; ++r)
        for (uint c = 0; c < ITEM_COLUMNS; ++c)
            sums[r][c] = bias[where.y * PANEL + across + 16 * c];

    for (uint start = 0; start < inputs; start += STEP) {
        for (uint at = item; at < ROWS * STEP; at += 256) {
            const uint r = at / STEP, i = at % STEP;
            const bool exists = first + r < rows && start + i < inputs;
            x_tile[i][r] = exists ? x[(size_t)(first + r) * x_stride + start + i] : 0.0f;
        }
        for (uint at = item; at < STEP * PANEL; at += 256) {
            const uint i = at / PANEL, c = at % PANEL;
            w_tile[i][c] = start + i < inputs ? panel[(size_t)(start + i) * PANEL + c] : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint i = 0; i < STEP; ++i) {
            float values[ITEM_ROWS];
            for (uint r = 0; r < ITEM_ROWS; ++r)
                values[r] = x_tile[i][down + 16 * r];
            for (uint c = 0; c < ITEM_COLUMNS; ++c) {
                const float weight = w_tile[i][across + 16 * c];
                for (uint r = 0; r < ITEM_ROWS; ++r)
                    sums[r][c] += values[r] * weight;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (uint r = 0; r < ITEM_ROWS; ++r) {
        const uint at = first + down + 16 * r;
        if (at < rows)
            for (uint c = 0; c < ITEM_COLUMNS; ++c)
                y[(size_t)at * y_stride + where.y * PANEL + across + 16 * c] =
                    rectify ? RELU(sums[r][c]) : sums[r][c];
    }
}
#undef ITEM_ROWS
#undef ITEM_COLUMNS
#undef STEP
