// One Euler step of CIR with full truncation, fused: 3 reads and 1 write of f32 per element.
// The first pointwise kernel of the device backend; the program interpreter replaces it.
#include "cir.cuh"

__global__ void cir_euler_f32(const float *__restrict__ x, const float *__restrict__ score,
                              const float *__restrict__ noise, float *__restrict__ out, long n, CirStep p) {
    const long stride = (long)gridDim.x * blockDim.x;
    for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < n / 4; i += stride) {
        const float4 a = reinterpret_cast<const float4 *>(x)[i];
        const float4 s = reinterpret_cast<const float4 *>(score)[i];
        const float4 z = reinterpret_cast<const float4 *>(noise)[i];
        float4 r;
        r.x = cir_step(a.x, s.x, z.x, p);
        r.y = cir_step(a.y, s.y, z.y, p);
        r.z = cir_step(a.z, s.z, z.z, p);
        r.w = cir_step(a.w, s.w, z.w, p);
        reinterpret_cast<float4 *>(out)[i] = r;
    }
    // the last n % 4 elements
    for (long i = (n / 4) * 4 + (long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
        out[i] = cir_step(x[i], score[i], noise[i], p);
}
