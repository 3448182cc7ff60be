// A whole small network in one launch: one work-item takes ROWS rows through every layer, its activations in two
// halves of `scratch` (2 * ROWS * width floats), and writes their probabilities. `plan` has four numbers a layer:
// inputs, panels, and where its weights and its bias start in `parameters`. Included once for each ROWS.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(chain)(__global const float *restrict x, __global const float *restrict parameters,
                   __global const uint *restrict plan, __global float *restrict probabilities, const uint rows,
                   const uint x_stride, const uint layers, const uint outputs, const uint width,
                   __local float *restrict scratch)
{
    const uint first = get_group_id(0) * ROWS;
    __local float *now = scratch;
    __local float *next = scratch + ROWS * width;
    // Rows past the end are zero: they are computed along and never stored.
    for (uint r = 0; r < ROWS; ++r)
        for (uint i = 0; i < plan[0]; ++i)
            now[r * width + i] = first + r < rows ? x[(size_t)(first + r) * x_stride + i] : 0.0f;

    for (uint layer = 0; layer < layers; ++layer) {
        const uint inputs = plan[4 * layer];
        const uint panels = plan[4 * layer + 1];
        __global const float *restrict weights = parameters + plan[4 * layer + 2];
        __global const float *restrict bias = parameters + plan[4 * layer + 3];
        __local const float *row[ROWS];
        #pragma unroll
        for (uint r = 0; r < ROWS; ++r)
            row[r] = now + r * width;
        for (uint p = 0; p < panels; ++p) {
            __global const float *restrict panel = weights + (size_t)p * inputs * PANEL;
            lanes low[ROWS], high[ROWS];
            #pragma unroll
            for (uint r = 0; r < ROWS; ++r) {
                low[r] = LOAD(0, bias + p * PANEL);
                high[r] = LOAD(1, bias + p * PANEL);
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
            const bool rectify = layer + 1 < layers;
            #pragma unroll
            for (uint r = 0; r < ROWS; ++r) {
                STORE(rectify ? RELU(low[r]) : low[r], 0, next + r * width + p * PANEL);
                STORE(rectify ? RELU(high[r]) : high[r], 1, next + r * width + p * PANEL);
            }
        }
        __local float *const done = now;
        now = next;
        next = done;
    }
    for (uint r = 0; r < ROWS && first + r < rows; ++r)
        softmax_row_local(now + r * width, probabilities + (size_t)(first + r) * outputs, outputs);
}
