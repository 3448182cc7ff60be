__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void softmax(__global const float *restrict logits, __global float *restrict probabilities, const uint rows,
             const uint outputs, const uint stride)
{
    const uint first = get_group_id(0) * SOFTMAX_ROWS;
    const uint last = min(first + SOFTMAX_ROWS, rows);
    for (uint row = first; row < last; ++row)
        softmax_row_global(logits + (size_t)row * stride, probabilities + (size_t)row * outputs, outputs);
}
