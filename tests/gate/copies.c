/* copies.c - several copies of libdiffx in one process, at once, each with the same plugin file: other names, and another
 * namespace of the linker. usage: copies A B PLUGIN */
#define _GNU_SOURCE
#include "diffx.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct copy {
    void *library;
    const char *plugin;
    uint32_t sum;
    char said[700];
} copy;

#define CALL(f) ((__typeof__(f) *)(size_t)dlsym(c->library, #f))

static void *sample(void *arg)
{
    copy *c = (copy *)arg;
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine_options options = DFX_ENGINE_OPTIONS_INIT;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *j = NULL;
    dfx_tensor *x = NULL;
    const void *data = NULL;
    size_t bytes = 0, i;
    dfx_status s;
    options.flags = DFX_ENGINE_LOAD_PLUGINS;
    options.n_threads = 2;
    opt.seed = 5;
    opt.n_samples = 16;
    opt.n_steps = 6;
    (void)((s = CALL(dfx_engine_create)(&options, &e, &err)) || (s = CALL(dfx_plugin_load)(e, c->plugin, NULL, &err)) ||
        (s = CALL(dfx_model_open)(e, "vix", NULL, &m, &err)) ||
        (s = CALL(dfx_pipeline_create)(m, "{\"sampler\": \"org.frozen.euler\"}", &p, &err)) ||
        (s = CALL(dfx_job_start)(p, &opt, &j, &err)) || (s = CALL(dfx_job_wait)(j, DFX_FOREVER, &err)) ||
        (s = CALL(dfx_job_result)(j, NULL, &x, &err)) || (s = CALL(dfx_tensor_map)(x, &data, &bytes, &err)));
    c->sum = 0x811c9dc5u;
    for (i = 0; i < bytes; i++) c->sum = (c->sum ^ ((const unsigned char *)data)[i]) * 0x01000193u;
    if (s) snprintf(c->said, sizeof c->said, "%s: %s", CALL(dfx_status_name)(s), err.message);
    else snprintf(c->said, sizeof c->said, "%lu bytes, %08lx", (unsigned long)bytes, (unsigned long)c->sum);
    CALL(dfx_tensor_release)(x);
    CALL(dfx_job_release)(j);
    CALL(dfx_pipeline_release)(p);
    CALL(dfx_model_release)(m);
    CALL(dfx_engine_release)(e);
    return NULL;
}

int main(int argc, char **argv)
{
    copy c[3];
    pthread_t thread[3];
    int i, n = 3;
    if (argc < 4) return 2;
    memset(c, 0, sizeof c);
    c[0].library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    c[1].library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    c[2].library = dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW | RTLD_LOCAL);
    if (c[2].library == NULL) { printf("no third: %s\n", dlerror()); n = 2; }
    for (i = 0; i < n; i++) {
        if (c[i].library == NULL) { puts("not loaded"); return 1; }
        c[i].plugin = argv[3];
        if (i > 0 && dlsym(c[i].library, "dfx_engine_create") == dlsym(c[i - 1].library, "dfx_engine_create")) {
            puts("the same copy");
            return 1;
        }
        /* one alone, then all at once */
        if (i == 0) sample(&c[0]);
    }
    for (i = 0; i < n; i++)
        if (pthread_create(&thread[i], NULL, sample, &c[i])) return 1;
    for (i = 0; i < n; i++) pthread_join(thread[i], NULL);
    for (i = 0; i < n; i++) {
        dlclose(c[i].library);
        printf("copy %d: %s\n", i, c[i].said);
    }
    return 0;
}
