/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

void er_random4(uint32_t out[4], uint64_t seed, uint32_t stream, uint32_t item, uint64_t draw)
{
    uint32_t c0 = (uint32_t)draw, c1 = (uint32_t)(draw >> 32), c2 = item, c3 = stream;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double er_random_uniform(uint64_t seed, uint32_t stream, uint32_t item, uint64_t draw)
{
    uint32_t r[4];
    er_random4(r, seed, stream, item, draw);
    return (double)(((uint64_t)r[0] << 32 | r[1]) >> 11) * 0x1p-53;
}

uint64_t er_random_below(uint64_t n, uint64_t seed, uint32_t stream, uint32_t item, uint64_t draw)
{
    uint32_t r[4];
    er_random4(r, seed, stream, item, draw);
    return (uint64_t)(((unsigned __int128)((uint64_t)r[0] << 32 | r[1]) * n) >> 64);
}
