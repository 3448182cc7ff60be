// One row of softmax, its logits in SPACE. Reads up to the next whole vector past the last column, which the padded
// stride allows, and writes exactly `outputs` probabilities. NaN anywhere in the row makes the whole row NaN: the sum
// carries it. Included once for each address space, since OpenCL C 1.2 has no generic one.
static inline void JOIN(softmax_row_, SPACE)(JOIN(__, SPACE) const float *logits, __global float *probabilities,
                                             const uint outputs)
{
    const uint whole = outputs / LANES * LANES;
    const mask exists = LANE_INDEX < (mask)((int)(outputs - whole));
    // Nothing past the row is read where there is nothing left over: the last panel may be full.
    lanes rest = (lanes)(-INFINITY);
    if (whole < outputs)
        rest = select(rest, LOAD(0, logits + whole), exists);
    lanes highest = rest;
    for (uint column = 0; column < whole; column += LANES)
        highest = fmax(highest, LOAD(0, logits + column));
    const lanes top = (lanes)(highest_lane(highest));

    rest = exp(rest - top);
    lanes sums = select((lanes)(0.0f), rest, exists);
    for (uint column = 0; column < whole; column += LANES)
        sums += exp(LOAD(0, logits + column) - top);
    const lanes sum = (lanes)(sum_of_lanes(sums));

    for (uint column = 0; column < whole; column += LANES)
        STORE(exp(LOAD(0, logits + column) - top) / sum, 0, probabilities + column);
    float each[LANES];
    STORE(rest / sum, 0, each);
    for (uint lane = 0; lane < outputs - whole; ++lane)
        probabilities[whole + lane] = each[lane];
}
