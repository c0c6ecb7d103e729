/* skew.c - loads a plugin and samples by org.newer.euler; says what came of each. With the header of the future it sends
 * larger options. usage: skew LIBRARY PLUGIN */
#include "diffx.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *library;
#define CALL(f) ((__typeof__(f) *)(size_t)dlsym(library, #f))

static int told(const char *what, dfx_status s, const dfx_error *err)
{
    if (s == DFX_OK) return 1;
    printf("%s: %s: %s\n", what, CALL(dfx_status_name)(s), err->message);
    return 0;
}

static void sample(dfx_model *m, const char *config, int future)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_pipeline *p = NULL;
    dfx_job *j = NULL;
    dfx_tensor *x = NULL;
    const void *data = NULL;
    size_t bytes = 0, i;
    uint32_t h = 0x811c9dc5u;
    opt.seed = 5;
    opt.n_samples = 4;
    opt.n_steps = 4;
#ifdef FUTURE
    opt.future = (uint64_t)future;
#else
    (void)future;
#endif
    if (told("pipeline", CALL(dfx_pipeline_create)(m, config, &p, &err), &err) &&
        told("start", CALL(dfx_job_start)(p, &opt, &j, &err), &err) &&
        told("wait", CALL(dfx_job_wait)(j, DFX_FOREVER, &err), &err) &&
        told("result", CALL(dfx_job_result)(j, "x", &x, &err), &err) &&
        told("map", CALL(dfx_tensor_map)(x, &data, &bytes, &err), &err)) {
        for (i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)data)[i]) * 0x01000193u;
        printf("sampled %08lx\n", (unsigned long)h);
    }
    CALL(dfx_tensor_release)(x);
    CALL(dfx_job_release)(j);
    CALL(dfx_pipeline_release)(p);
}

int main(int argc, char **argv)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine_options options = DFX_ENGINE_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL;
    library = argc > 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) return 2;
    options.flags = DFX_ENGINE_LOAD_PLUGINS;
    if (!told("engine", CALL(dfx_engine_create)(&options, &e, &err), &err) ||
        !told("open", CALL(dfx_model_open)(e, "vix", NULL, &m, &err), &err))
        return 1;
    sample(m, "{\"sampler\": \"org.diffx.euler\"}", 0);
    if (told("load", CALL(dfx_plugin_load)(e, argv[2], NULL, &err), &err))
        sample(m, "{\"sampler\": \"org.newer.euler\"}", 0);
#ifdef FUTURE
    sample(m, "{\"sampler\": \"org.diffx.euler\"}", 1);
#endif
    CALL(dfx_model_release)(m);
    CALL(dfx_engine_release)(e);
    return 0;
}
