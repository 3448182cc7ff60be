// For devices whose work-items are threads with vector registers: one work-item keeps a tile of ROWS rows by one panel
// (two vectors) in registers, and walks down the inputs. Included once for each ROWS.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(dense)(__global const float *restrict x, __global const float *restrict weights,
                   __global const float *restrict bias, __global float *restrict y, const uint rows, const uint inputs,
                   const uint panels, const uint x_stride, const uint y_stride, const uint rectify)
{
    const uint tiles = (rows + ROWS - 1) / ROWS;
    const uint2 where = tile_and_panel(get_group_id(0), tiles, panels);
    const uint first = where.x * ROWS;
    __global const float *restrict panel = weights + (size_t)where.y * inputs * PANEL;

    // Rows past the end repeat the last row: no read outside the batch, nothing stored for them.
    __global const float *row[ROWS];
    #pragma unroll
    for (uint r = 0; r < ROWS; ++r)
        row[r] = x + (size_t)min(first + r, rows - 1) * x_stride;

    lanes low[ROWS], high[ROWS];
    #pragma unroll
    for (uint r = 0; r < ROWS; ++r) {
        low[r] = LOAD(0, bias + where.y * PANEL);
        high[r] = LOAD(1, bias + where.y * PANEL);
    }
    for (uint i = 0; i < inputs; ++i) {
        const lanes w_low = LOAD(0, panel + (size_t)i * PANEL);
        const lanes w_high = LOAD(1, panel + (size_t)i * PANEL);
        #pragma unroll
        for (uint r = 0; r < ROWS; ++r) {
            const lanes value = (lanes)(row[r][i]);
            low[r] += value * w_low;
            high[r] += value * w_high;
        }
    }
    #pragma unroll
    for (uint r = 0; r < ROWS; ++r)
        if (first + r < rows) {
            __global float *restrict out = y + (size_t)(first + r) * y_stride + where.y * PANEL;
            STORE(rectify ? RELU(low[r]) : low[r], 0, out);
            STORE(rectify ? RELU(high[r]) : high[r], 1, out);
        }
}
