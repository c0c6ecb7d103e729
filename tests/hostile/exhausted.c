/* Everything a host does, through an allocator of the host that refuses: the n-th request, and then again from the n-th
 * request on until the call fails. A call that fails says DFX_E_NO_MEMORY, goes well when it is made again, and the end is
 * the same as if nothing had been refused; every block comes back. n runs over all requests.
 * usage: exhausted FOLDER */
#include "diffx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the allocator */

static unsigned long asked, given, back, bytes_out, refuse_at;
static int refuse_all, refused;

static void *DFX_CALL host_alloc(void *user, size_t size, size_t align)
{
    unsigned long n = __sync_add_and_fetch(&asked, 1);
    void *p = NULL;
    (void)user;
    if (refuse_at != 0 && (n == refuse_at || (refuse_all && n > refuse_at))) {
        refused = 1;
        return NULL;
    }
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size) != 0) return NULL;
    memset(p, 0xa5, size);
    __sync_add_and_fetch(&given, 1);
    __sync_add_and_fetch(&bytes_out, (unsigned long)size);
    return p;
}

static void DFX_CALL host_free(void *user, void *p, size_t size, size_t align)
{
    (void)user;
    (void)align;
    __sync_add_and_fetch(&back, 1);
    __sync_sub_and_fetch(&bytes_out, (unsigned long)size);
    free(p);
}

/* ---- what a host does, step by step. A step that fails leaves things as they were. */

typedef struct host {
    uint32_t flags;
    dfx_engine *engine;
    dfx_model *model;
    dfx_pipeline *pipeline;
    dfx_trainer *trainer;
    dfx_tuner *tuner;
    dfx_tensor *x, *sigma, *start;
    unsigned long sum;
} host;

static char f_trainer[512], f_model[512], f_job[512], f_tuner[512], f_tuned[512], f_pilot[512];

static const char recipe[] =
    "{\"model\":\"mlp:{\\\"width\\\":8,\\\"depth\\\":1}\",\"process\":\"ve\",\"steps\":4,\"batch\":2,\"warmup\":0,"
    "\"data\":{\"held_out\":0.25}}";
static const char tuning[] =
    "{\"objective\":\"elbo_pg\",\"samples\":4,\"rounds\":2,\"old\":{\"rate\":0.5},\"actor\":\"old\","
    "\"rollout\":{\"steps\":2,\"sampler\":\"euler\"}}";

#define TRY(call)                          \
    do {                                   \
        dfx_status s_ = (call);            \
        if (s_ != DFX_OK) return s_;       \
    } while (0)

static void add(host *h, const void *data, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) h->sum = (h->sum ^ ((const unsigned char *)data)[i]) * 1099511628211UL;
}

/* Adds the elements to the sum, and lets go of the tensor. */
static dfx_status take(host *h, dfx_tensor *t, dfx_error *err)
{
    const void *data = NULL;
    size_t n = 0;
    dfx_status s = dfx_tensor_map(t, &data, &n, err);
    if (s == DFX_OK) add(h, data, n);
    dfx_tensor_release(t);
    return s;
}

static dfx_status do_engine(host *h, dfx_error *err)
{
    dfx_engine_options o = DFX_ENGINE_OPTIONS_INIT;
    dfx_allocator a;
    memset(&a, 0, sizeof a);
    a.struct_size = sizeof a;
    a.alloc = host_alloc;
    a.free = host_free;
    o.flags = h->flags;
    o.n_threads = 2;
    o.allocator = &a;
    return dfx_engine_create(&o, &h->engine, err);
}

static dfx_status tensor(host *h, dfx_dtype type, int64_t a, int64_t b, dfx_tensor **out, dfx_error *err)
{
    static const float f[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    static const double d[] = { 1.0 };
    dfx_desc desc;
    if (*out) return DFX_OK;
    memset(&desc, 0, sizeof desc);
    desc.dtype = type;
    desc.rank = b ? 2 : 1;
    desc.dims[0] = a;
    desc.dims[1] = b;
    return dfx_tensor_create(h->engine, &desc, type == DFX_F64 ? (const void *)d : (const void *)f, out, err);
}

static dfx_status do_tensors(host *h, dfx_error *err)
{
    TRY(tensor(h, DFX_F32, 4, 3, &h->x, err));
    TRY(tensor(h, DFX_F32, 4, 0, &h->sigma, err));
    return tensor(h, DFX_F64, 1, 0, &h->start, err);
}

static dfx_status do_trainer(host *h, dfx_error *err)
{
    static const char *const names[] = { "x" };
    const dfx_tensor *tables[1];
    dfx_trainer_options o = DFX_TRAINER_OPTIONS_INIT;
    uint64_t bytes;
    tables[0] = h->x;
    o.n_tables = 1;
    o.table_names = names;
    o.tables = tables;
    TRY(dfx_trainer_plan(h->engine, recipe, &o, &bytes, err));
    return dfx_trainer_create(h->engine, recipe, &o, &h->trainer, err);
}

static dfx_status do_checkpoint(host *h, dfx_error *err)
{
    return dfx_trainer_checkpoint(h->trainer, f_trainer, err);
}

/* Back to the checkpoint and two steps on: a retry comes to the same place. */
static dfx_status do_train(host *h, dfx_error *err)
{
    dfx_training said = DFX_TRAINING_INIT, held = DFX_TRAINING_INIT;
    TRY(dfx_trainer_resume(h->trainer, f_trainer, err));
    TRY(dfx_trainer_step(h->trainer, 2, &said, err));
    TRY(dfx_trainer_measure(h->trainer, &held, err));
    add(h, &said.loss, sizeof said.loss);
    add(h, &held.loss, sizeof held.loss);
    return DFX_OK;
}

/* Two more, without going back: what a step that failed left behind does not show. */
static dfx_status do_steps(host *h, dfx_error *err)
{
    dfx_training said = DFX_TRAINING_INIT;
    do TRY(dfx_trainer_step(h->trainer, 1, &said, err));
    while (said.step < 4);
    add(h, &said.loss, sizeof said.loss);
    return DFX_OK;
}

static dfx_status do_save(host *h, dfx_error *err)
{
    return dfx_trainer_save(h->trainer, f_model, err);
}

static dfx_status do_model(host *h, dfx_error *err)
{
    return dfx_model_open(h->engine, f_model, NULL, &h->model, err);
}

static dfx_status do_pipeline(host *h, dfx_error *err)
{
    return dfx_pipeline_create(h->model, "{\"steps\":3,\"sampler\":\"heun\",\"batch\":2}", &h->pipeline, err);
}

/* A job to its end, with previews; saved on the way where `save` says so. */
static dfx_status finish(host *h, dfx_job *job, int save, dfx_error *err)
{
    dfx_tensor *t = NULL;
    dfx_status s = DFX_OK;
    if (save) s = dfx_job_save(job, f_job, err);
    if (s == DFX_E_STATE) s = DFX_OK; /* it was over before */
    if (s == DFX_OK) s = dfx_job_wait(job, DFX_FOREVER, err);
    if (s == DFX_OK) s = dfx_job_preview(job, "x", &t, err);
    if (s == DFX_OK) s = take(h, t, err);
    if (s == DFX_OK) s = dfx_job_result(job, NULL, &t, err);
    if (s == DFX_OK) s = take(h, t, err);
    dfx_job_release(job);
    return s;
}

static dfx_status do_job(host *h, dfx_error *err)
{
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    dfx_job *job = NULL;
    uint64_t bytes;
    unsigned long sum = h->sum;
    dfx_status s;
    o.seed = 3;
    o.n_samples = 5;
    o.preview_every = 1;
    TRY(dfx_pipeline_plan(h->pipeline, &o, &bytes, err));
    TRY(dfx_job_start(h->pipeline, &o, &job, err));
    s = finish(h, job, h->flags & DFX_ENGINE_NO_THREADS ? 1 : 0, err);
    if (s != DFX_OK) h->sum = sum;
    return s;
}

static dfx_status do_resume(host *h, dfx_error *err)
{
    dfx_job *job = NULL;
    unsigned long sum = h->sum;
    dfx_status s;
    TRY(dfx_job_resume(h->pipeline, f_job, NULL, &job, err));
    s = finish(h, job, 0, err);
    if (s != DFX_OK) h->sum = sum;
    return s;
}

static dfx_status do_eval(host *h, dfx_error *err)
{
    static const char *const names[] = { "x", "sigma" };
    static const char *const wanted[] = { "x", "grad.x" };
    const dfx_tensor *inputs[2];
    dfx_tensor *out[2];
    dfx_eval_options o = DFX_EVAL_OPTIONS_INIT;
    inputs[0] = h->x;
    inputs[1] = h->sigma;
    o.n_inputs = o.n_outputs = 2;
    o.input_names = names;
    o.inputs = inputs;
    o.output_names = wanted;
    TRY(dfx_pipeline_eval(h->pipeline, &o, out, err));
    TRY(take(h, out[0], err));
    return take(h, out[1], err);
}

static dfx_status do_score(host *h, dfx_error *err)
{
    static const char *const names[] = { "x" };
    const dfx_tensor *inputs[1];
    dfx_tensor *out = NULL;
    dfx_score_options o = DFX_SCORE_OPTIONS_INIT;
    inputs[0] = h->x;
    o.n_inputs = 1;
    o.n_steps = 2;
    o.input_names = names;
    o.inputs = inputs;
    TRY(dfx_pipeline_score(h->pipeline, &o, &out, err));
    return take(h, out, err);
}

static dfx_status do_simulate(host *h, dfx_error *err)
{
    static const double times[] = { 0.5, 1.0 };
    dfx_tensor *out = NULL;
    dfx_simulate_options o = DFX_SIMULATE_OPTIONS_INIT;
    o.process = "cir";
    o.times = times;
    o.n_times = 2;
    o.n_samples = 100;
    o.x0 = h->start;
    TRY(dfx_simulate(h->engine, &o, &out, err));
    return take(h, out, err);
}

static dfx_status do_pilot(host *h, dfx_error *err)
{
    dfx_pipeline *p = NULL;
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    const char *json = NULL;
    dfx_status s;
    o.n_samples = 4;
    o.n_steps = 8;
    TRY(dfx_pipeline_create(h->model, "{\"steps\":3,\"grid\":\"art\"}", &p, err));
    s = dfx_pipeline_pilot(p, &o, &json, err);
    if (s == DFX_OK) s = dfx_pipeline_save(p, f_pilot, err);
    if (s == DFX_OK) add(h, json, strlen(json));
    dfx_pipeline_release(p);
    return s;
}

static dfx_status do_tuner(host *h, dfx_error *err)
{
    uint64_t bytes;
    TRY(dfx_tuner_plan(h->model, tuning, &bytes, err));
    return dfx_tuner_create(h->model, tuning, &h->tuner, err);
}

/* A round: each call is made again by itself where it fails, so that what it left behind would show. */
static int part;

static dfx_status do_round(host *h, dfx_error *err)
{
    dfx_reward word = DFX_REWARD_INIT;
    dfx_training said = DFX_TRAINING_INIT;
    dfx_tensor *drawn = NULL;
    word.values = h->sigma;
    if (part == 0) {
        TRY(dfx_tuner_rollout(h->tuner, NULL, err));
        part = 1;
    }
    if (part == 1) {
        TRY(dfx_tuner_result(h->tuner, "x", &drawn, err));
        TRY(take(h, drawn, err));
        part = 2;
    }
    if (part == 2) {
        TRY(dfx_tuner_reward(h->tuner, &word, err));
        part = 3;
    }
    TRY(dfx_tuner_update(h->tuner, 0, &said, err));
    add(h, &said.loss, sizeof said.loss);
    part = 0;
    return DFX_OK;
}

static dfx_status do_tuner_checkpoint(host *h, dfx_error *err)
{
    return dfx_tuner_checkpoint(h->tuner, f_tuner, err);
}

static dfx_status do_tuner_resume(host *h, dfx_error *err)
{
    return dfx_tuner_resume(h->tuner, f_tuner, err);
}

static dfx_status do_tuner_save(host *h, dfx_error *err)
{
    return dfx_tuner_save(h->tuner, f_tuned, err);
}

/* What was tuned, sampled: it holds all that training and tuning did. */
static dfx_status do_tuned(host *h, dfx_error *err)
{
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *job = NULL;
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    unsigned long sum = h->sum;
    dfx_status s = dfx_model_open(h->engine, f_tuned, NULL, &m, err);
    o.n_samples = 3;
    o.preview_every = 1;
    if (s == DFX_OK) s = dfx_pipeline_create(m, "{\"steps\":2,\"batch\":2}", &p, err);
    if (s == DFX_OK) s = dfx_job_start(p, &o, &job, err);
    if (s == DFX_OK) s = finish(h, job, 0, err);
    if (s != DFX_OK) h->sum = sum;
    dfx_pipeline_release(p);
    dfx_model_release(m);
    return s;
}

static const struct {
    const char *name;
    dfx_status (*run)(host *h, dfx_error *err);
} steps[] = {
    { "engine", do_engine },
    { "tensors", do_tensors },
    { "trainer", do_trainer },
    { "its checkpoint", do_checkpoint },
    { "resumed, stepped, measured", do_train },
    { "steps", do_steps },
    { "its model saved", do_save },
    { "model", do_model },
    { "pipeline", do_pipeline },
    { "job with previews, saved", do_job },
    { "job resumed", do_resume },
    { "eval", do_eval },
    { "score", do_score },
    { "simulate", do_simulate },
    { "pilot", do_pilot },
    { "tuner", do_tuner },
    { "round", do_round },
    { "its checkpoint", do_tuner_checkpoint },
    { "resumed", do_tuner_resume },
    { "round", do_round },
    { "its model saved", do_tuner_save },
    { "what was tuned", do_tuned }
};
#define STEPS (sizeof steps / sizeof steps[0])

static unsigned long counts[STEPS], tried, said_no;

/* Everything once. Returns the sum over all results. */
static unsigned long run(uint32_t flags, unsigned long n, int all)
{
    host h;
    size_t i;
    memset(&h, 0, sizeof h);
    h.flags = flags;
    h.sum = 1469598103934665603UL;
    asked = given = back = bytes_out = 0;
    refuse_at = n;
    refuse_all = all;
    refused = part = 0;
    for (i = 0; i < STEPS; i++) {
        dfx_error err = DFX_ERROR_INIT;
        unsigned long before = asked;
        dfx_status s = steps[i].run(&h, &err);
        if (n == 0) counts[i] = asked - before;
        if (s == DFX_OK && refused && all) refuse_at = 0;
        if (s == DFX_OK) continue;
        if (s != DFX_E_NO_MEMORY || !refused || err.message_len == 0) {
            fprintf(stderr, "request %lu, %s: %s: %s\n", n, steps[i].name, dfx_status_name(s), err.message);
            exit(1);
        }
        said_no++;
        refuse_at = 0;
        s = steps[i].run(&h, &err);
        if (s != DFX_OK) {
            fprintf(stderr, "request %lu, %s again: %s: %s\n", n, steps[i].name, dfx_status_name(s), err.message);
            exit(1);
        }
    }
    tried += n != 0;
    dfx_tuner_release(h.tuner);
    dfx_trainer_release(h.trainer);
    dfx_pipeline_release(h.pipeline);
    dfx_model_release(h.model);
    dfx_tensor_release(h.x);
    dfx_tensor_release(h.sigma);
    dfx_tensor_release(h.start);
    dfx_engine_release(h.engine);
    if (given != back || bytes_out != 0) {
        fprintf(stderr, "request %lu: %lu blocks given, %lu came back\n", n, given, back);
        exit(1);
    }
    if (n != 0 && !refused) {
        fprintf(stderr, "request %lu was never made\n", n);
        exit(1);
    }
    return h.sum;
}

int main(int argc, char **argv)
{
    unsigned long sum, total, n;
    size_t i;
    int all;
    if (argc != 2 || strlen(argv[1]) > 400) return 2;
    sprintf(f_trainer, "%s/trainer.safetensors", argv[1]);
    sprintf(f_model, "%s/model.safetensors", argv[1]);
    sprintf(f_job, "%s/job.safetensors", argv[1]);
    sprintf(f_tuner, "%s/tuner.safetensors", argv[1]);
    sprintf(f_tuned, "%s/tuned.safetensors", argv[1]);
    sprintf(f_pilot, "%s/pilot.safetensors", argv[1]);
    sum = run(DFX_ENGINE_NO_THREADS, 0, 0);
    total = asked;
    for (i = 0; i < STEPS; i++) printf("%-28s %3lu requests\n", steps[i].name, counts[i]);
    for (all = 0; all < 2; all++) {
        /* with threads too: fewer requests there, as no job is saved */
        for (n = 1; n <= total; n++) {
            unsigned long got = run(DFX_ENGINE_NO_THREADS, n, all);
            if (got != sum) {
                fprintf(stderr, "request %lu refused%s: another end\n", n, all ? " and all behind it" : "");
                return 1;
            }
        }
    }
    sum = run(0, 0, 0);
    total = asked;
    for (n = 1; n <= total; n += 3) {
        if (run(0, n, 0) != sum) {
            fprintf(stderr, "request %lu refused, with threads: another end\n", n);
            return 1;
        }
    }
    printf("%lu requests refused in turn, %lu calls said so, 0 blocks left\nok\n", tried, said_no);
    return 0;
}
