/* What calls cost from C; calls.py, calls.lua and calls.jl do the same. Prints nanoseconds: an empty call, a tensor made,
 * mapped and released, a job of one sample and one step started, waited for and read. */
#include "diffx.h"
#include <stdio.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void) {
    dfx_engine_options quiet = DFX_ENGINE_OPTIONS_INIT;
    dfx_job_options options = DFX_JOB_OPTIONS_INIT;
    dfx_engine *e = NULL; dfx_model *m = NULL; dfx_pipeline *p = NULL; dfx_job *j = NULL; dfx_tensor *t = NULL;
    dfx_error err = DFX_ERROR_INIT;
    dfx_desc desc = { DFX_F32, 1, { 4, 0, 0, 0, 0, 0, 0, 0 } };
    float four[4] = { 1, 2, 3, 4 };
    const void *data;
    size_t bytes;
    double start, sum = 0;
    int i;

    quiet.flags = DFX_ENGINE_NO_THREADS;
    if (dfx_engine_create(&quiet, &e, &err) || dfx_model_open(e, "vix", NULL, &m, &err) ||
        dfx_pipeline_create(m, "{\"sampler\": \"euler\", \"steps\": 1}", &p, &err)) return 1;
    start = now();
    for (i = 0; i < 100000; i++) sum += dfx_api_version();
    printf("empty %.1f\n", (now() - start) / 100000);
    start = now();
    for (i = 0; i < 20000; i++) {
        if (dfx_tensor_create(e, &desc, four, &t, &err) || dfx_tensor_map(t, &data, &bytes, &err)) return 1;
        sum += ((const float *)data)[3];
        dfx_tensor_release(t);
    }
    printf("tensor %.1f\n", (now() - start) / 20000);
    options.n_samples = 1;
    for (i = -20; i < 200; i++) {
        if (i == 0) start = now();
        if (dfx_job_start(p, &options, &j, &err) || dfx_job_wait(j, DFX_FOREVER, &err) ||
            dfx_job_result(j, NULL, &t, &err) || dfx_tensor_map(t, &data, &bytes, &err)) return 1;
        sum += ((const float *)data)[0];
        dfx_tensor_release(t);
        dfx_job_release(j);
    }
    printf("job %.1f\n", (now() - start) / 200);
    dfx_pipeline_release(p); dfx_model_release(m); dfx_engine_release(e);
    return sum == 0;
}
