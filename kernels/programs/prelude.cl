// Shared by every program. The host defines LANES (floats in a vector register), PANEL (columns of one weight panel)
// and TILE_BLOCK (row tiles that share a weight panel while it is in cache).
//
// A layer's weights come in panels: [panel][input][column of the panel], zero where the layer has fewer columns than
// its panels. Activations are row-major with a stride that is a whole number of panels, so that a kernel stores whole
// panels and never asks whether a column exists.

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define KERNEL(name) JOIN(name##_, ROWS)

typedef JOIN(float, LANES) lanes;
typedef JOIN(int, LANES) mask;
#define LOAD JOIN(vload, LANES)
#define STORE JOIN(vstore, LANES)

// Not fmax(): that would turn NaN into zero, and the reference passes NaN on.
#define RELU(v) ((v) < 0.0f ? 0.0f : (v))

// Across the lanes of one vector. Not with .lo and .hi, whose values oclgrind takes for uninitialised.
static inline float highest_lane(const lanes values)
{
    float each[LANES];
    STORE(values, 0, each);
    #pragma unroll
    for (uint width = LANES / 2; width > 0; width /= 2)
        for (uint lane = 0; lane < width; ++lane)
            each[lane] = fmax(each[lane], each[lane + width]);
    return each[0];
}

static inline float sum_of_lanes(const lanes values)
{
    float each[LANES];
    STORE(values, 0, each);
    #pragma unroll
    for (uint width = LANES / 2; width > 0; width /= 2)
        for (uint lane = 0; lane < width; ++lane)
            each[lane] += each[lane + width];
    return each[0];
}

// Which row tile and which panel a work-group computes. Neighbouring groups share a panel of weights over TILE_BLOCK
// row tiles before the next panel starts, so that both the panel and the tiles stay in the second-level cache.
static inline uint2 tile_and_panel(const uint group, const uint tiles, const uint panels)
{
    const uint block = group / (TILE_BLOCK * panels);
    const uint within = group % (TILE_BLOCK * panels);
    const uint height = min((uint)TILE_BLOCK, tiles - block * TILE_BLOCK);
    return (uint2)(block * TILE_BLOCK + within % height, within / height);
}

// The class of a row is the first index of its largest probability; a row of NaN is class 0, as numpy has it.
__kernel void argmax(__global const float *restrict probabilities, __global int *restrict classes, const uint rows,
                     const uint outputs)
{
    const uint row = get_global_id(0);
    if (row >= rows)
        return;
    __global const float *restrict values = probabilities + (size_t)row * outputs;
    float best = values[0];
    int at = 0;
    for (uint column = 1; column < outputs; ++column)
        if (values[column] > best) {
            best = values[column];
            at = (int)column;
        }
    classes[row] = at;
}
