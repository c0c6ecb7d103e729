/* What calls cost from C; calls.py, calls.lua and calls.jl do the same. Prints nanoseconds: an empty call, a tensor made,
 * mapped and released, a job of one sample and one step started, waited for and read; the same job of the null network in
 * the file that DIFFX_NULL names, and a step of it in a job of many, which is everything but a network. */
#include "diffx.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STEPS 20000

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static dfx_error err = DFX_ERROR_INIT;
static double sum;

static int job(dfx_pipeline *p) {
    dfx_job_options options = DFX_JOB_OPTIONS_INIT;
    dfx_job *j = NULL;
    dfx_tensor *t = NULL;
    const void *data;
    size_t bytes;
    options.n_samples = 1;
    if (dfx_job_start(p, &options, &j, &err) || dfx_job_wait(j, DFX_FOREVER, &err) ||
        dfx_job_result(j, NULL, &t, &err) || dfx_tensor_map(t, &data, &bytes, &err)) return 1;
    sum += ((const float *)data)[0];
    dfx_tensor_release(t);
    dfx_job_release(j);
    return 0;
}

/* Nanoseconds of one of `n` jobs, after a few that are not timed. */
static double jobs(dfx_pipeline *p, int n) {
    double start = 0;
    int i;
    for (i = -n / 10 - 1; i < n; i++) {
        if (i == 0) start = now();
        if (job(p)) {
            fprintf(stderr, "%s\n", err.message);
            exit(1);
        }
    }
    return (now() - start) / n;
}

int main(void) {
    dfx_engine_options quiet = DFX_ENGINE_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL, *null = NULL;
    dfx_pipeline *p = NULL, *one = NULL, *many = NULL;
    dfx_tensor *t = NULL;
    dfx_desc desc = { DFX_F32, 1, { 4, 0, 0, 0, 0, 0, 0, 0 } };
    float four[4] = { 1, 2, 3, 4 };
    const void *data;
    size_t bytes;
    double start;
    char config[64];
    int i;

    quiet.flags = DFX_ENGINE_NO_THREADS;
    snprintf(config, sizeof config, "{\"sampler\": \"euler\", \"steps\": %d}", STEPS);
    if (dfx_engine_create(&quiet, &e, &err) || dfx_model_open(e, "vix", NULL, &m, &err) ||
        dfx_model_open(e, getenv("DIFFX_NULL"), NULL, &null, &err) ||
        dfx_pipeline_create(m, "{\"sampler\": \"euler\", \"steps\": 1}", &p, &err) ||
        dfx_pipeline_create(null, "{\"sampler\": \"euler\", \"steps\": 1}", &one, &err) ||
        dfx_pipeline_create(null, config, &many, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
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
    printf("job %.1f\n", jobs(p, 200));
    printf("null %.1f\n", jobs(one, 500));
    printf("step %.1f\n", jobs(many, 10) / STEPS);
    dfx_pipeline_release(many); dfx_pipeline_release(one); dfx_pipeline_release(p);
    dfx_model_release(null); dfx_model_release(m); dfx_engine_release(e);
    return sum == 0;
}
