/* host.c - frozen: a host as it was written for the headers beside this file. usage: host LIBRARY [PLUGIN]
 * tests/gate builds it against those headers and against today's, and runs it on today's engine: both must print the
 * same. With a plugin it samples and simulates by it; a plugin that is refused for its version is said to be. Never edited. */
#include "diffx.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *library;
#define CALL(f) ((__typeof__(f) *)(size_t)find(#f))
static void *find(const char *name)
{
    void *p = dlsym(library, name);
    if (p == NULL) { printf("%s is gone\n", name); exit(2); }
    return p;
}
static void check(dfx_status s, const dfx_error *err, const char *what)
{
    if (s == DFX_OK) return;
    printf("%s: %s: %s\n", what, CALL(dfx_status_name)(s), err->message);
    exit(1);
}
static void tell(const char *what, const dfx_tensor *t)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_desc d;
    const void *data = NULL;
    size_t bytes = 0, i;
    uint32_t h = 0x811c9dc5u;
    check(CALL(dfx_tensor_desc)(t, &d, &err), &err, "desc");
    check(CALL(dfx_tensor_map)(t, &data, &bytes, &err), &err, "map");
    for (i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)data)[i]) * 0x01000193u;
    printf("%s: type %u rank %u first %ld, %lu bytes, %08lx\n", what, (unsigned)d.dtype, (unsigned)d.rank,
           (long)d.dims[0], (unsigned long)bytes, (unsigned long)h);
}

static size_t held, blocks;
static void *DFX_CALL take(void *user, size_t size, size_t align)
{
    void *p = NULL;
    (void)user;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
    __sync_fetch_and_add(&held, size);
    __sync_fetch_and_add(&blocks, 1);
    return p;
}
static void DFX_CALL give(void *user, void *p, size_t size, size_t align)
{
    (void)user; (void)align;
    __sync_fetch_and_sub(&held, size);
    free(p);
}
static int32_t DFX_CALL progress(void *user, dfx_job *job, const dfx_progress *p)
{
    (void)job;
    *(uint64_t *)user = p->n_steps;
    return 0;
}

static dfx_tensor *sample(dfx_model *m, const char *config)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_progress at = DFX_PROGRESS_INIT;
    dfx_pipeline *p = NULL;
    dfx_job *j = NULL;
    dfx_tensor *x = NULL;
    uint64_t rows = 0, bytes = 0;
    opt.seed = 5;
    opt.first_sample = 3;
    opt.n_samples = 8;
    opt.n_steps = 6;
    opt.progress = progress;
    opt.user = &rows;
    check(CALL(dfx_pipeline_create)(m, config, &p, &err), &err, "pipeline");
    check(CALL(dfx_pipeline_plan)(p, &opt, &bytes, &err), &err, "plan");
    check(CALL(dfx_job_start)(p, &opt, &j, &err), &err, "start");
    check(CALL(dfx_job_wait)(j, DFX_FOREVER, &err), &err, "wait");
    check(CALL(dfx_job_poll)(j, &at, &err), &err, "poll");
    if (at.state != DFX_JOB_DONE || at.step != at.n_steps || rows != at.n_steps || bytes == 0) puts("progress is wrong");
    check(CALL(dfx_job_result)(j, "x", &x, &err), &err, "result");
    CALL(dfx_job_release)(j);
    CALL(dfx_pipeline_release)(p);
    return x;
}

static void simulate(dfx_engine *e, const char *process)
{
    static const double times[2] = { 0.5, 1.0 };
    dfx_error err = DFX_ERROR_INIT;
    dfx_simulate_options opt = DFX_SIMULATE_OPTIONS_INIT;
    dfx_tensor *x0 = NULL, *paths = NULL;
    double start = 0.04;
    dfx_desc d;
    memset(&d, 0, sizeof d);
    d.dtype = DFX_F64;
    check(CALL(dfx_tensor_create)(e, &d, &start, &x0, &err), &err, "tensor");
    opt.seed = 9;
    opt.n_samples = 5;
    opt.n_times = 2;
    opt.process = process;
    opt.times = times;
    opt.x0 = x0;
    check(CALL(dfx_simulate)(e, &opt, &paths, &err), &err, "simulate");
    tell(process, paths);
    CALL(dfx_tensor_release)(paths);
    CALL(dfx_tensor_release)(x0);
}

static void eval(dfx_engine *e, dfx_model *m, const dfx_tensor *x)
{
    static const char *const in[2] = { "x", "sigma" }, *const out[2] = { "x", "grad.x" };
    dfx_error err = DFX_ERROR_INIT;
    dfx_eval_options opt = DFX_EVAL_OPTIONS_INIT;
    const dfx_tensor *given[2];
    dfx_tensor *sigma = NULL, *made[2] = { NULL, NULL };
    dfx_pipeline *p = NULL;
    float levels[8];
    dfx_desc d;
    int i;
    for (i = 0; i < 8; i++) levels[i] = 0.5f;
    memset(&d, 0, sizeof d);
    d.dtype = DFX_F32;
    d.rank = 1;
    d.dims[0] = 8;
    check(CALL(dfx_tensor_create)(e, &d, levels, &sigma, &err), &err, "tensor");
    check(CALL(dfx_pipeline_create)(m, NULL, &p, &err), &err, "pipeline");
    given[0] = x;
    given[1] = sigma;
    opt.n_inputs = 2;
    opt.n_outputs = 2;
    opt.input_names = in;
    opt.inputs = given;
    opt.output_names = out;
    check(CALL(dfx_pipeline_eval)(p, &opt, made, &err), &err, "eval");
    for (i = 0; i < 2; i++) {
        tell(out[i], made[i]);
        CALL(dfx_tensor_release)(made[i]);
    }
    CALL(dfx_tensor_release)(sigma);
    CALL(dfx_pipeline_release)(p);
}

int main(int argc, char **argv)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_allocator memory = { sizeof(dfx_allocator), 0, NULL, take, give, NULL };
    dfx_engine_options options = DFX_ENGINE_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL, *none = NULL;
    dfx_tensor *x;
    uint64_t used = 0, peak = 0;
    dfx_status s;
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) { puts(dlerror()); return 2; }
    options.flags = DFX_ENGINE_LOAD_PLUGINS;
    options.n_threads = 2;
    options.allocator = &memory;
    check(CALL(dfx_engine_create)(&options, &e, &err), &err, "engine");
    check(CALL(dfx_model_open)(e, "vix", NULL, &m, &err), &err, "open");
    x = sample(m, "{\"sampler\": \"org.diffx.heun\"}");
    tell("heun", x);
    eval(e, m, x);
    CALL(dfx_tensor_release)(x);
    simulate(e, "cir:{\"kappa\":1.0,\"theta\":0.04,\"sigma\":0.2}");
    s = CALL(dfx_model_open)(e, "/no/such/file", NULL, &none, &err);
    printf("a missing file: %s, status %d, a message: %d\n", CALL(dfx_status_name)(s), (int)err.status, err.message_len > 0);
    if (argc > 2) {
        s = CALL(dfx_plugin_load)(e, argv[2], NULL, &err);
        if (s == DFX_E_VERSION) {
            printf("refused for its version: %s\n", err.message);
        } else {
            check(s, &err, "plugin");
            x = sample(m, "{\"sampler\": \"org.frozen.euler\", \"grid\": \"org.frozen.geometric\", "
                          "\"guidance\": [\"org.frozen.shrink\"]}");
            tell("plugin", x);
            CALL(dfx_tensor_release)(x);
            simulate(e, "org.frozen.gauss");
        }
    }
    check(CALL(dfx_engine_memory)(e, &used, &peak, &err), &err, "memory");
    if (used == 0 || peak < used || held == 0) puts("memory is wrong");
    CALL(dfx_model_release)(m);
    CALL(dfx_engine_release)(e);
    printf("left: %lu bytes of %s blocks\n", (unsigned long)held, blocks > 0 ? "some" : "no");
    return 0;
}
