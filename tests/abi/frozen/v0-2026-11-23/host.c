/* host.c - frozen: a host as it was written for the headers beside this file. usage: host LIBRARY [PLUGIN]
 * tests/gate builds it against those headers and against today's, and runs it on today's engine: both must print the
 * same. With a plugin it samples, simulates, trains and tunes by it; what it writes goes to a folder of its own, and a
 * plugin that is refused for its version is said to be. Never edited. */
#include "diffx.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* A job with previews, on an engine that the host pumps: saved on the way, left, and resumed. */
static void interrupted(const char *folder)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine_options options = DFX_ENGINE_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_preview what = DFX_PREVIEW_INIT;
    dfx_pipeline *p = NULL;
    dfx_job *j = NULL, *again = NULL;
    dfx_tensor *x = NULL;
    char path[256];
    sprintf(path, "%s/job.safetensors", folder);
    options.flags = DFX_ENGINE_NO_THREADS;
    check(CALL(dfx_engine_create)(&options, &e, &err), &err, "engine");
    check(CALL(dfx_model_open)(e, "vix", NULL, &m, &err), &err, "open");
    opt.seed = 6;
    opt.n_samples = 4;
    opt.preview_every = 1;
    check(CALL(dfx_pipeline_create)(m, "{\"steps\": 3, \"batch\": 2}", &p, &err), &err, "pipeline");
    check(CALL(dfx_job_start)(p, &opt, &j, &err), &err, "start");
    if (CALL(dfx_engine_pump)(e, 0) != 1) puts("pumping is wrong");
    check(CALL(dfx_job_save)(j, path, &err), &err, "save");
    check(CALL(dfx_job_resume)(p, path, NULL, &again, &err), &err, "resume");
    CALL(dfx_job_cancel)(j);
    CALL(dfx_job_release)(j);
    check(CALL(dfx_job_wait)(again, DFX_FOREVER, &err), &err, "wait");
    check(CALL(dfx_job_preview_at)(again, "x", &what, &x, &err), &err, "preview");
    printf("preview of %lu samples from %lu on, after %lu rows\n", (unsigned long)what.n_samples,
           (unsigned long)what.first_sample, (unsigned long)what.step);
    tell("preview", x);
    CALL(dfx_tensor_release)(x);
    check(CALL(dfx_job_result)(again, NULL, &x, &err), &err, "result");
    tell("resumed", x);
    CALL(dfx_tensor_release)(x);
    CALL(dfx_job_release)(again);
    CALL(dfx_pipeline_release)(p);
    CALL(dfx_model_release)(m);
    CALL(dfx_engine_release)(e);
    remove(path);
}

static void simulate(dfx_engine *e, const char *process, uint32_t flags)
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
    opt.flags = flags;
    opt.substeps = flags == DFX_SIMULATE_EULER ? 4 : 0;
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

/* The plugin's own network, by its own objective; then tuned by a reward of the host, and sampled. */
static void train(dfx_engine *e, const char *folder)
{
    static const float rows[16] = { 1, 2, 2, 1, 0, 1, 3, 1, 1, 1, 2, 2, 0, 0, 1, 3 };
    static const char *const names[2] = { "x", "shift" }, *const inputs[1] = { "shift" };
    static const char tuning[] = "{\"objective\": \"org.frozen.rewarded\", \"samples\": 4, \"rounds\": 2, \"rollout\": "
                                 "{\"steps\": 3, \"sampler\": \"org.frozen.euler\"}}";
    dfx_error err = DFX_ERROR_INIT;
    dfx_trainer_options opt = DFX_TRAINER_OPTIONS_INIT;
    dfx_job_options want = DFX_JOB_OPTIONS_INIT;
    dfx_training at = DFX_TRAINING_INIT, held = DFX_TRAINING_INIT;
    const dfx_tensor *tables[2];
    dfx_tensor *x = NULL, *out = NULL, *shift = NULL;
    dfx_trainer *t = NULL;
    dfx_tuner *tuner = NULL;
    dfx_model *m = NULL, *tuned = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *j = NULL;
    const char *metric = NULL;
    const float word[4] = { 0.5f, -1.0f, 2.0f, 0.25f };
    double value = 0.0;
    char path[256];
    int round;
    dfx_desc d;
    memset(&d, 0, sizeof d);
    d.dtype = DFX_F32;
    d.rank = 2;
    d.dims[0] = 8;
    d.dims[1] = 2;
    check(CALL(dfx_tensor_create)(e, &d, rows, &x, &err), &err, "table");
    tables[0] = tables[1] = x;
    opt.n_tables = 2;
    opt.table_names = names;
    opt.tables = tables;
    check(CALL(dfx_trainer_create)(e, "{\"model\": \"org.frozen.layer\", \"process\": \"org.frozen.gauss\", "
          "\"objective\": \"org.frozen.denoise\", \"steps\": 6, \"batch\": 4, \"warmup\": 0, \"rate\": 0.01, "
          "\"data\": {\"held_out\": 0.25}}", &opt, &t, &err), &err, "trainer");
    check(CALL(dfx_trainer_step)(t, 6, &at, &err), &err, "step");
    check(CALL(dfx_trainer_measure)(t, &held, &err), &err, "measure");
    check(CALL(dfx_trainer_metric_name)(t, 0, &metric, &err), &err, "metric");
    check(CALL(dfx_trainer_metric)(t, metric, &value, &err), &err, "metric");
    printf("plugin trained: %lu of %lu steps, loss %a, norm %a, held out %a, %u metrics, %s %a\n", (unsigned long)at.step,
           (unsigned long)at.n_steps, at.loss, at.norm, held.loss, (unsigned)CALL(dfx_trainer_metric_count)(t), metric, value);
    sprintf(path, "%s/model.safetensors", folder);
    check(CALL(dfx_trainer_save)(t, path, &err), &err, "save");
    CALL(dfx_trainer_release)(t);
    check(CALL(dfx_model_open)(e, path, NULL, &m, &err), &err, "open");
    remove(path);

    d.dims[0] = 4;
    d.rank = 1;
    check(CALL(dfx_tuner_create)(m, tuning, &tuner, &err), &err, "tuner");
    for (round = 0; round < 2; round++) {
        dfx_reward reward = DFX_REWARD_INIT;
        dfx_tensor *values = NULL;
        check(CALL(dfx_tuner_rollout)(tuner, NULL, &err), &err, "rollout");
        check(CALL(dfx_tuner_result)(tuner, "states.x", &out, &err), &err, "result");
        tell("plugin rollout", out);
        CALL(dfx_tensor_release)(out);
        check(CALL(dfx_tensor_create)(e, &d, word, &values, &err), &err, "reward");
        reward.values = values;
        check(CALL(dfx_tuner_reward)(tuner, &reward, &err), &err, "reward");
        CALL(dfx_tensor_release)(values);
        check(CALL(dfx_tuner_update)(tuner, 0, &at, &err), &err, "update");
        printf("plugin tuned: %lu of %lu updates, loss %a\n", (unsigned long)at.step, (unsigned long)at.n_steps, at.loss);
    }
    check(CALL(dfx_tuner_save)(tuner, path, &err), &err, "save");
    CALL(dfx_tuner_release)(tuner);
    check(CALL(dfx_model_open)(e, path, NULL, &tuned, &err), &err, "open");
    remove(path);

    d.dims[0] = 2;
    check(CALL(dfx_tensor_create)(e, &d, word, &shift, &err), &err, "shift");
    tables[0] = shift;
    want.seed = 8;
    want.n_samples = 5;
    want.n_inputs = 1;
    want.input_names = inputs;
    want.inputs = tables;
    check(CALL(dfx_pipeline_create)(tuned, "{\"sampler\": \"org.frozen.euler\", \"grid\": \"org.frozen.geometric\", "
          "\"guidance\": \"org.frozen.shrink\", \"steps\": 5}", &p, &err), &err, "pipeline");
    check(CALL(dfx_job_start)(p, &want, &j, &err), &err, "start");
    check(CALL(dfx_job_wait)(j, DFX_FOREVER, &err), &err, "wait");
    check(CALL(dfx_job_result)(j, "x", &out, &err), &err, "result");
    tell("plugin sampled", out);
    CALL(dfx_tensor_release)(out);
    check(CALL(dfx_job_result)(j, "feasible", &out, &err), &err, "result");
    tell("plugin judged", out);
    CALL(dfx_tensor_release)(out);
    CALL(dfx_job_release)(j);
    CALL(dfx_pipeline_release)(p);
    CALL(dfx_model_release)(tuned);
    CALL(dfx_model_release)(m);
    CALL(dfx_tensor_release)(shift);
    CALL(dfx_tensor_release)(x);
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/diffx-frozen-XXXXXX";
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
    if (mkdtemp(folder) == NULL) return 2;
    options.flags = DFX_ENGINE_LOAD_PLUGINS;
    options.n_threads = 2;
    options.allocator = &memory;
    check(CALL(dfx_engine_create)(&options, &e, &err), &err, "engine");
    check(CALL(dfx_model_open)(e, "vix", NULL, &m, &err), &err, "open");
    x = sample(m, "{\"sampler\": \"org.diffx.heun\"}");
    tell("heun", x);
    eval(e, m, x);
    CALL(dfx_tensor_release)(x);
    interrupted(folder);
    simulate(e, "cir:{\"kappa\":1.0,\"theta\":0.04,\"sigma\":0.2}", 0);
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
            simulate(e, "org.frozen.gauss", 0);
            simulate(e, "org.frozen.gauss:{\"range\":7}", DFX_SIMULATE_EULER);
            train(e, folder);
        }
    }
    check(CALL(dfx_engine_memory)(e, &used, &peak, &err), &err, "memory");
    if (used == 0 || peak < used || held == 0) puts("memory is wrong");
    CALL(dfx_model_release)(m);
    CALL(dfx_engine_release)(e);
    if (rmdir(folder) != 0) puts("files are left: wrong");
    printf("left: %lu bytes of %s blocks\n", (unsigned long)held, blocks > 0 ? "some" : "no");
    return 0;
}
