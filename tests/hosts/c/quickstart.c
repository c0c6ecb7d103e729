/* A C host from beginning to end: opens a model, samples while looking on, cancels, saves and resumes, simulates.
 * usage: quickstart MODEL [PLACE FOR A SAVED JOB] */
#include "diffx.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(dfx_status s, const dfx_error *err, const char *what)
{
    if (s != DFX_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, dfx_status_name(s), err->message);
        exit(1);
    }
}

static void require(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "failed: %s\n", what);
        exit(1);
    }
}

/* Mean, standard deviation, smallest and largest of an f32 tensor. */
static void describe(const dfx_tensor *t, const char *name)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_desc d;
    const void *data = NULL;
    const float *x;
    size_t bytes = 0, i, n;
    double sum = 0, square = 0, lo, hi;
    check(dfx_tensor_desc(t, &d, &err), &err, "desc");
    check(dfx_tensor_map(t, &data, &bytes, &err), &err, "map");
    require(d.dtype == DFX_F32 && bytes >= sizeof(float), "an f32 tensor that is not empty");
    x = (const float *)data;
    n = bytes / sizeof(float);
    lo = hi = x[0];
    for (i = 0; i < n; i++) {
        sum += x[i];
        square += (double)x[i] * x[i];
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    sum /= (double)n;
    printf("%s: %lu x %lu values, mean %.4f, sd %.4f, from %.4f to %.4f\n", name, (unsigned long)d.dims[0],
           (unsigned long)(n / (size_t)d.dims[0]), sum, sqrt(square / (double)n - sum * sum), lo, hi);
    require(sum == sum, "the mean is a number");
}

static int32_t DFX_CALL on_progress(void *user, dfx_job *job, const dfx_progress *p)
{
    (void)job;
    (void)p;
    ++*(int *)user;
    return 0;
}

static void sample(const dfx_pipeline *p)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_progress at = DFX_PROGRESS_INIT;
    dfx_job *job = NULL;
    dfx_tensor *x = NULL, *preview = NULL;
    uint64_t bytes = 0, last = 0;
    int calls = 0, previews = 0;
    opt.seed = 1;
    opt.n_samples = 1000;
    opt.preview_every = 4;
    opt.progress = on_progress;
    opt.user = &calls;
    check(dfx_pipeline_plan(p, &opt, &bytes, &err), &err, "plan");
    require(bytes > 0, "a job takes memory");
    printf("a job of 1000 takes %lu bytes\n", (unsigned long)bytes);
    check(dfx_job_start(p, &opt, &job, &err), &err, "start");
    require(dfx_job_result(job, "nothing", &x, NULL) != DFX_OK && x == NULL, "no such result");
    do {
        check(dfx_job_poll(job, &at, &err), &err, "poll");
        require(at.step >= last && at.step <= at.n_steps, "progress only grows");
        last = at.step;
        if (dfx_job_preview(job, "x", &preview, NULL) == DFX_OK) {
            previews++;
            dfx_tensor_release(preview);
        }
    } while (at.state == DFX_JOB_QUEUED || at.state == DFX_JOB_RUNNING);
    check(dfx_job_wait(job, DFX_FOREVER, &err), &err, "wait");
    require(calls > 0, "progress was told");
    require(previews > 0, "previews were seen");
    check(dfx_job_result(job, NULL, &x, &err), &err, "result");
    dfx_job_release(job); /* the tensor outlives its job */
    describe(x, "x");
    dfx_tensor_retain(x);
    dfx_tensor_release(x);
    dfx_tensor_release(x);
}

static void cancel(const dfx_pipeline *p)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_progress at = DFX_PROGRESS_INIT;
    dfx_job *job = NULL;
    dfx_status s;
    opt.n_samples = 256;
    opt.n_steps = 20000;
    check(dfx_job_start(p, &opt, &job, &err), &err, "start");
    do {
        check(dfx_job_poll(job, &at, &err), &err, "poll");
    } while (at.step < 10);
    dfx_job_cancel(job);
    s = dfx_job_wait(job, DFX_FOREVER, &err);
    require(s == DFX_E_CANCELLED && err.status == DFX_E_CANCELLED, "the job was cancelled");
    check(dfx_job_poll(job, &at, &err), &err, "poll");
    require(at.state == DFX_JOB_CANCELLED && at.step < at.n_steps, "half-way");
    printf("cancelled at step %lu of %lu: %s\n", (unsigned long)at.step, (unsigned long)at.n_steps, err.message);
    dfx_job_release(job);
    /* released while running */
    check(dfx_job_start(p, &opt, &job, &err), &err, "start");
    dfx_job_release(job);
}

/* Without threads: the host gives time, saves half-way, and another pipeline goes on. */
static void frames(const char *model, const char *place)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine_options options = DFX_ENGINE_OPTIONS_INIT;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_progress at = DFX_PROGRESS_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *job = NULL, *again = NULL;
    dfx_tensor *x = NULL, *y = NULL;
    const void *a = NULL, *b = NULL;
    size_t n = 0, k = 0;
    int turns = 0;
    options.flags = DFX_ENGINE_NO_THREADS;
    check(dfx_engine_create(&options, &e, &err), &err, "engine");
    check(dfx_model_open(e, model, NULL, &m, &err), &err, "open");
    check(dfx_pipeline_create(m, NULL, &p, &err), &err, "pipeline");
    opt.seed = 5;
    opt.n_samples = 300;
    check(dfx_job_start(p, &opt, &job, &err), &err, "start");
    do {
        require(dfx_engine_pump(e, 100) == 1, "one job is unfinished");
        check(dfx_job_poll(job, &at, &err), &err, "poll");
    } while (at.step * 2 < at.n_steps);
    check(dfx_job_save(job, place, &err), &err, "save");
    while (dfx_engine_pump(e, 1000) > 0)
        turns++;
    check(dfx_job_result(job, "x", &x, &err), &err, "result");
    check(dfx_job_resume(p, place, NULL, &again, &err), &err, "resume");
    check(dfx_job_wait(again, DFX_FOREVER, &err), &err, "wait");
    check(dfx_job_result(again, "x", &y, &err), &err, "result");
    check(dfx_tensor_map(x, &a, &n, &err), &err, "map");
    check(dfx_tensor_map(y, &b, &k, &err), &err, "map");
    require(n == k && memcmp(a, b, n) == 0, "a resumed job gives the same bits");
    printf("saved half-way and resumed: the same %lu bytes, after %d frames\n", (unsigned long)n, turns);
    /* any order */
    dfx_engine_release(e);
    dfx_model_release(m);
    dfx_pipeline_release(p);
    dfx_tensor_release(x);
    dfx_job_release(job);
    dfx_job_release(again);
    dfx_tensor_release(y);
    remove(place);
}

static void simulate(const dfx_engine *e)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_simulate_options opt = DFX_SIMULATE_OPTIONS_INIT;
    static const double times[3] = { 0.25, 0.5, 1.0 };
    uint32_t last[1] = { 2 };
    float start = 0.04f;
    dfx_desc d;
    dfx_tensor *x0 = NULL, *paths = NULL;
    memset(&d, 0, sizeof d);
    d.dtype = DFX_F32;
    check(dfx_tensor_create(e, &d, &start, &x0, &err), &err, "tensor");
    opt.process = "cir:{\"kappa\":1.0,\"theta\":0.04,\"sigma\":0.2}";
    opt.times = times;
    opt.n_times = 3;
    opt.x0 = x0;
    opt.n_samples = 2000;
    check(dfx_simulate(e, &opt, &paths, &err), &err, "simulate");
    describe(paths, "cir paths");
    dfx_tensor_release(paths);
    opt.flags = DFX_SIMULATE_EULER;
    opt.substeps = 50;
    opt.keep = last;
    opt.n_keep = 1;
    check(dfx_simulate(e, &opt, &paths, &err), &err, "simulate by Euler");
    check(dfx_tensor_desc(paths, &d, &err), &err, "desc");
    require(d.rank == 2 && d.dims[0] == 2000 && d.dims[1] == 1, "the last time alone came out");
    dfx_tensor_release(paths);
    last[0] = 3;
    require(dfx_simulate(e, &opt, &paths, &err) == DFX_E_INVALID, "a time that does not exist");
    last[0] = 2;
    opt.flags = 0;
    require(dfx_simulate(e, &opt, &paths, &err) == DFX_E_INVALID, "substeps of exact transitions");
    dfx_tensor_release(x0);
}

/* Two samples of a model are likelier than the same numbers far from any data. */
static void score(const dfx_engine *e, const dfx_pipeline *p)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options one = DFX_JOB_OPTIONS_INIT;
    dfx_score_options opt = DFX_SCORE_OPTIONS_INIT;
    dfx_job *job = NULL;
    dfx_tensor *x = NULL, *far = NULL, *near_nats = NULL, *far_nats = NULL;
    const void *bytes = NULL;
    const double *a = NULL, *b = NULL;
    const char *name = "x";
    const dfx_tensor *input[1];
    dfx_desc d;
    float *moved;
    size_t i, n = 0, k = 0;
    one.n_samples = 2;
    check(dfx_job_start(p, &one, &job, &err), &err, "start");
    check(dfx_job_wait(job, DFX_FOREVER, &err), &err, "wait");
    check(dfx_job_result(job, "x", &x, &err), &err, "result");
    dfx_job_release(job);
    opt.n_inputs = 1;
    opt.n_steps = 2;
    opt.n_probes = 2;
    opt.input_names = &name;
    opt.inputs = input;
    input[0] = x;
    check(dfx_pipeline_score(p, &opt, &near_nats, &err), &err, "score");
    check(dfx_tensor_desc(x, &d, &err), &err, "desc");
    check(dfx_tensor_map(x, &bytes, &n, &err), &err, "map");
    moved = malloc(n);
    require(moved != NULL, "memory");
    for (i = 0; i < n / sizeof(float); i++)
        moved[i] = ((const float *)bytes)[i] * 1000.0f;
    check(dfx_tensor_create(e, &d, moved, &far, &err), &err, "tensor");
    free(moved);
    input[0] = far;
    check(dfx_pipeline_score(p, &opt, &far_nats, &err), &err, "score");
    check(dfx_tensor_map(near_nats, (const void **)&a, &n, &err), &err, "map");
    check(dfx_tensor_map(far_nats, (const void **)&b, &k, &err), &err, "map");
    require(n == 2 * sizeof(double) && k == n, "one number per sample");
    require(a[0] > b[0] && a[1] > b[1], "samples are likelier than numbers far away");
    name = "y";
    require(dfx_pipeline_score(p, &opt, &far_nats, &err) == DFX_E_INVALID, "an unknown input");
    dfx_tensor_release(x);
    dfx_tensor_release(far);
    dfx_tensor_release(near_nats);
    dfx_tensor_release(far_nats);
}

/* Wrong calls give a status, never a crash. */
static void mistakes(dfx_engine *e, const char *model)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_error little = DFX_ERROR_INIT;
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_engine *none = NULL;
    dfx_engine_options options = DFX_ENGINE_OPTIONS_INIT;
    require(dfx_model_open(e, "/no/such/file.safetensors", NULL, &m, &err) < 0 && m == NULL, "no such file");
    require(dfx_model_open(NULL, model, NULL, &m, &err) == DFX_E_INVALID, "no engine");
    require(dfx_model_open(e, NULL, NULL, &m, NULL) == DFX_E_INVALID, "no path and no error");
    little.struct_size = 24;
    require(dfx_model_open(e, "no-such-carried-model", NULL, &m, &little) == DFX_E_NOT_FOUND, "no such model");
    require(strlen(little.message) == 7 && little.message[8] == 0, "a short error got a short message");
    check(dfx_model_open(e, model, NULL, &m, &err), &err, "open");
    require(dfx_pipeline_create(m, "{\"sampler\":\"huen\"}", &p, &err) == DFX_E_NOT_FOUND, "a misspelt sampler");
    require(strstr(err.message, "heun") != NULL, "the error names the nearest");
    require(dfx_pipeline_create(m, "{\"stepz\":3}", &p, &err) == DFX_E_FORMAT, "an unknown key");
    require(dfx_pipeline_create((const dfx_model *)e, NULL, &p, &err) == DFX_E_INVALID, "an engine is no model");
    options.device = "cuda:0";
    require(dfx_engine_create(&options, &none, &err) == DFX_E_UNSUPPORTED || none != NULL, "cuda");
    dfx_engine_release(none);
    options.struct_size = 5000;
    require(dfx_engine_create(&options, &none, &err) == DFX_E_INVALID, "a struct beyond all bounds");
    dfx_model_release(m);
    dfx_model_release(NULL);
    dfx_tensor_release(NULL);
}

int main(int argc, char **argv)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine *e = NULL;
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    const char *json = NULL;
    uint32_t i, n;
    const char *model = argc > 1 ? argv[1] : "vix";
    require(dfx_api_version() == ((uint32_t)DFX_API_MAJOR << 16 | DFX_API_MINOR), "header and library agree");
    check(dfx_engine_create(NULL, &e, &err), &err, "engine");
    n = dfx_factory_count(e);
    require(n > 10, "plugins are there");
    for (i = 0; i < n; i++)
        check(dfx_factory_json(e, i, &json, &err), &err, "factory");
    require(dfx_factory_json(e, n, &json, &err) == DFX_E_NOT_FOUND, "past the last factory");
    check(dfx_model_open(e, model, NULL, &m, &err), &err, "open");
    check(dfx_model_json(m, &json, &err), &err, "json");
    require(strstr(json, "\"components\"") != NULL, "the model describes itself");
    check(dfx_pipeline_create(m, NULL, &p, &err), &err, "pipeline");
    sample(p);
    cancel(p);
    simulate(e);
    score(e, p);
    mistakes(e, model);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    dfx_engine_release(e);
    if (argc > 2)
        frames(model, argv[2]);
    puts("ok");
    return 0;
}
