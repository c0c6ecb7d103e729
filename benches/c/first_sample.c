/* From dlopen of the library to the first sample of a model, in one process that has done nothing before.
 * usage: first_sample LIBRARY MODEL; prints microseconds of the clock and of the processor */
#define _POSIX_C_SOURCE 200809L
#include "diffx.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double micros(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* The address of a function; C has no cast for it. */
static int find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

int main(int argc, char **argv)
{
    dfx_status (*engine_create)(const dfx_engine_options *, dfx_engine **, dfx_error *);
    dfx_status (*model_open)(dfx_engine *, const char *, const char *, dfx_model **, dfx_error *);
    dfx_status (*pipeline_create)(const dfx_model *, const char *, dfx_pipeline **, dfx_error *);
    dfx_status (*job_start)(const dfx_pipeline *, const dfx_job_options *, dfx_job **, dfx_error *);
    dfx_status (*job_wait)(dfx_job *, uint64_t, dfx_error *);
    dfx_status (*job_result)(const dfx_job *, const char *, dfx_tensor **, dfx_error *);
    dfx_status (*tensor_map)(const dfx_tensor *, const void **, size_t *, dfx_error *);
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine_options options = DFX_ENGINE_OPTIONS_INIT;
    dfx_job_options job_options = DFX_JOB_OPTIONS_INIT;
    dfx_engine *engine = NULL;
    dfx_model *model = NULL;
    dfx_pipeline *pipeline = NULL;
    dfx_job *job = NULL;
    dfx_tensor *x = NULL;
    const void *data = NULL;
    size_t bytes = 0;
    double clock, work;
    void *library;

    if (argc != 3) return 2;
    clock = micros(CLOCK_MONOTONIC);
    work = micros(CLOCK_PROCESS_CPUTIME_ID);
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || !find(library, "dfx_engine_create", &engine_create)
        || !find(library, "dfx_model_open", &model_open) || !find(library, "dfx_pipeline_create", &pipeline_create)
        || !find(library, "dfx_job_start", &job_start) || !find(library, "dfx_job_wait", &job_wait)
        || !find(library, "dfx_job_result", &job_result) || !find(library, "dfx_tensor_map", &tensor_map)) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    options.flags = DFX_ENGINE_NO_THREADS;
    options.n_threads = 1;
    job_options.seed = 1;
    job_options.n_samples = 1;
    if (engine_create(&options, &engine, &err) || model_open(engine, argv[2], NULL, &model, &err)
        || pipeline_create(model, NULL, &pipeline, &err) || job_start(pipeline, &job_options, &job, &err)
        || job_wait(job, DFX_FOREVER, &err) || job_result(job, NULL, &x, &err)
        || tensor_map(x, &data, &bytes, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("%.1f %.1f\n", micros(CLOCK_MONOTONIC) - clock, micros(CLOCK_PROCESS_CPUTIME_ID) - work);
    return bytes == 0 || data == NULL;
}
