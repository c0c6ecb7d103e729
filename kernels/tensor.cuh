// One instruction of the tensor cores, for a warp: d += a b, a of 16 x 16 and b of 16 x 8 bf16, d of 16 x 8 f32. With
// g = lane / 4 and q = lane % 4 a lane holds, two neighbours a register, the lower one in the lower half:
//   a[e]  row g + 8 (e & 1), columns 2q + 8 (e >> 1) and the next
//   b[e]  column g, rows 2q + 8 e and the next
//   d[e]  row g + 8 (e >> 1), column 2q + (e & 1)
#pragma once
#include "device.cuh"

#ifndef DIFFX_EMULATE
DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
