// A whole small network in one launch: a work-group of CHAIN_ITEMS items takes ROWS rows through every layer, an item a
// column, its activations in two halves of `scratch` (2 * ROWS * width floats), and writes their probabilities. `plan`
// has four numbers a layer: inputs, panels, and where its weights and its bias start in `parameters`.
__kernel __attribute__((reqd_work_group_size(CHAIN_ITEMS, 1, 1)))
void KERNEL(chain)(__global const float *restrict x, __global const float *restrict parameters,
                   __global const uint *restrict plan, __global float *restrict probabilities, const uint rows,
                   const uint x_stride, const uint layers, const uint outputs, const uint width,
                   __local float *restrict scratch)
{
    const uint item = get_local_id(0);
    const uint first = get_group_id(0) * ROWS;
    uint now = 0;
    uint next = ROWS * width;
    const uint features = plan[0];
    // Rows past the end are zero: they are computed along and never stored.
    for (uint at = item; at < ROWS * features; at += CHAIN_ITEMS) {
        const uint r = at / features, i = at % features;
        scratch[now + r * width + i] = first + r < rows ? x[(size_t)(first + r) * x_stride + i] : 0.0f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    for (uint layer = 0; layer < layers; ++layer) {
        const uint inputs = plan[4 * layer];
        const uint columns = plan[4 * layer + 1] * PANEL;
        __global const float *restrict weights = parameters + plan[4 * layer + 2];
        __global const float *restrict bias = parameters + plan[4 * layer + 3];
        for (uint column = item; column < columns; column += CHAIN_ITEMS) {
            __global const float *restrict down = weights + (size_t)(column / PANEL) * inputs * PANEL + column % PANEL;
            float sums[ROWS];
            for (uint r = 0; r < ROWS; ++r)
                sums[r] = bias[column];
            for (uint i = 0; i < inputs; ++i) {
                const float weight = down[(size_t)i * PANEL];
                for (uint r = 0; r < ROWS; ++r)
                    sums[r] += scratch[now + r * width + i] * weight;
            }
            for (uint r = 0; r < ROWS; ++r)
                scratch[next + r * width + column] = layer + 1 < layers ? RELU(sums[r]) : sums[r];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        const uint done = now;
        now = next;
        next = done;
    }
    if (item < ROWS && first + item < rows) {
        __local const float *logits = scratch + now + item * width;
        __global float *out = probabilities + (size_t)(first + item) * outputs;
        float top = -INFINITY;
        for (uint column = 0; column < outputs; ++column)
            top = fmax(top, logits[column]);
        float sum = 0.0f;
        for (uint column = 0; column < outputs; ++column)
            sum += exp(logits[column] - top);
        for (uint column = 0; column < outputs; ++column)
            out[column] = exp(logits[column] - top) / sum;
    }
}
