// One work-group a row. NaN anywhere in the row makes the whole row NaN: fmax() skips it, the sum carries it.
__kernel __attribute__((reqd_work_group_size(SOFTMAX_ITEMS, 1, 1)))
void softmax(__global const float *restrict logits, __global float *restrict probabilities, const uint rows,
             const uint outputs, const uint stride)
{
    __local float part[SOFTMAX_ITEMS];
    const uint item = get_local_id(0);
    __global const float *restrict row = logits + (size_t)get_group_id(0) * stride;
    __global float *restrict out = probabilities + (size_t)get_group_id(0) * outputs;

    float top = -INFINITY;
    for (uint column = item; column < outputs; column += SOFTMAX_ITEMS)
        top = fmax(top, row[column]);
    part[item] = top;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint half_ = SOFTMAX_ITEMS / 2; half_ > 0; half_ /= 2) {
        if (item < half_)
            part[item] = fmax(part[item], part[item + half_]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    top = part[0];
    barrier(CLK_LOCAL_MEM_FENCE); // every item has read the maximum before the sums overwrite it

    float sum = 0.0f;
    for (uint column = item; column < outputs; column += SOFTMAX_ITEMS)
        sum += exp(row[column] - top);
    part[item] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint half_ = SOFTMAX_ITEMS / 2; half_ > 0; half_ /= 2) {
        if (item < half_)
            part[item] += part[item + half_];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    sum = part[0];
    for (uint column = item; column < outputs; column += SOFTMAX_ITEMS)
        out[column] = exp(row[column] - top) / sum;
}
