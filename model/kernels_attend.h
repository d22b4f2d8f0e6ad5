/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: attention of one query head, compiled once per instruction set. */

/* out[i] = chain over p ascending of weight[p] row_p[i], row_p = v0 + p stride for p < split, else v1 + (p - split)
 * stride. Four groups of lanes stay in registers while p runs. */
static void mix(float *out, const float *weight, const float *v0, const float *v1, const er_seen *seen, int64_t dim)
{
    const float *part[2] = {v0, v1};
    int64_t end[2] = {seen->split, seen->count}, i = 0;
    for (; i + 64 <= dim; i += 64) {
        lanes s0 = lanes_set(0.0f), s1 = s0, s2 = s0, s3 = s0;
        for (int64_t k = 0, p = 0; k < 2; k++)
            for (const float *v = part[k] + i; p < end[k]; p++, v += seen->stride) {
                lanes w = lanes_set(weight[p]);
                s0 = lanes_fma(w, lanes_load(v), s0);
                s1 = lanes_fma(w, lanes_load(v + 16), s1);
                s2 = lanes_fma(w, lanes_load(v + 32), s2);
                s3 = lanes_fma(w, lanes_load(v + 48), s3);
            }
        lanes_put(out + i, s0);
        lanes_put(out + i + 16, s1);
        lanes_put(out + i + 32, s2);
        lanes_put(out + i + 48, s3);
    }
    for (; i + 16 <= dim; i += 16) {
        lanes s = lanes_set(0.0f);
        for (int64_t k = 0, p = 0; k < 2; k++)
            for (const float *v = part[k] + i; p < end[k]; p++, v += seen->stride)
                s = lanes_fma(lanes_set(weight[p]), lanes_load(v), s);
        lanes_put(out + i, s);
    }
    for (; i < dim; i++) {
        float s = 0.0f;
        for (int64_t k = 0, p = 0; k < 2; k++)
            for (const float *v = part[k] + i; p < end[k]; p++, v += seen->stride)
                s = __builtin_fmaf(weight[p], *v, s);
        out[i] = s;
    }
}

/* out[p - from] = (a . row_p) scale, p in [from, to) */
static void scores(float *out, const float *a, const float *v0, const float *v1, const er_seen *seen, int64_t from,
                   int64_t to, int64_t dim, float factor)
{
    int64_t p = from, middle = to < seen->split ? to : seen->split;
    for (; p < middle; p++) out[p - from] = dot(a, v0 + p * seen->stride, dim) * factor;
    for (; p < to; p++) out[p - from] = dot(a, v1 + (p - seen->split) * seen->stride, dim) * factor;
}

static void attend(float *out, float *weights, const float *q, const er_seen *seen, int64_t head_dim, float factor)
{
    int64_t count = seen->count;
    scores(weights, q, seen->k0, seen->k1, seen, 0, count, head_dim, factor);
    if (seen->cap != 0.0f) softcap(weights, count, seen->cap);
    exp_shifted(weights, weights, greatest(weights, count), count);
    float sum = total(weights, count);
    for (int64_t p = 0; p < count; p++) weights[p] /= sum;
    mix(out, weights, seen->v0, seen->v1, seen, head_dim);
}

/* The way back through the cap, from scores that are computed again. */
static void uncap(float *grad, const float *q, const er_seen *seen, int64_t head_dim, float factor)
{
    enum { CHUNK = 64 };
    float part[CHUNK];
    for (int64_t from = 0; from < seen->count; from += CHUNK) {
        int64_t to = seen->count - from < CHUNK ? seen->count : from + CHUNK;
        scores(part, q, seen->k0, seen->k1, seen, from, to, head_dim, factor);
        softcap(part, to - from, seen->cap);
        softcap_back(grad + from, part, to - from, seen->cap);
    }
}

/* With w = softmax(s): dw_p = out_grad . v_p, ds_p = w_p (dw_p - sum_r w_r dw_r), q_grad = scale sum_p ds_p k_p,
 * k_grad_p += scale ds_p q, v_grad_p += w_p out_grad. */
static void attend_back(float *q_grad, float *k_grad, float *v_grad, int64_t stride_grad, const float *out_grad,
                        const float *weights, float *scratch, const float *q, const er_seen *seen, int64_t head_dim,
                        float factor)
{
    int64_t count = seen->count;
    scores(scratch, out_grad, seen->v0, seen->v1, seen, 0, count, head_dim, 1.0f);
    float mean = dot(weights, scratch, count);
    for (int64_t p = 0; p < count; p++) scratch[p] = weights[p] * (scratch[p] - mean) * factor;
    if (seen->cap != 0.0f) uncap(scratch, q, seen, head_dim, factor);
    mix(q_grad, scratch, seen->k0, seen->k1, seen, head_dim);
    for (int64_t p = seen->split; p < count; p++) {
        axpy(k_grad + (p - seen->split) * stride_grad, scratch[p], q, head_dim);
        axpy(v_grad + (p - seen->split) * stride_grad, weights[p], out_grad, head_dim);
    }
}
