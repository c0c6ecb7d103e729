/* Eight threads that create, sample, look on, cancel, save and release, on one engine they share, on one that they pump, and
 * on engines of their own. `scripts/tsan` runs it under the thread sanitizer; with a second argument one race is planted,
 * of the host with the library ("data") or of two threads of the host ("host"), which must be found.
 * usage: threads FOLDER [data|host] */
#include "diffx.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 8
#define TURNS 8

static char f_model[512];
static const char *plant = "";
static int counter; /* of the planted race */

static dfx_engine *engines[2]; /* with threads of its own, and without */
static dfx_pipeline *pipelines[2];
static dfx_tensor *x;
static float numbers[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

/* A job that its neighbour may cancel. */
static struct {
    pthread_mutex_t lock;
    dfx_job *job;
} slots[THREADS];

static void check(dfx_status s, const dfx_error *err, const char *what)
{
    if (s != DFX_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, dfx_status_name(s), err->message);
        exit(1);
    }
}

#define MUST(call) check((call), &err, #call)

static void open_model(uint32_t flags, dfx_engine **e, dfx_pipeline **p)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine_options o = DFX_ENGINE_OPTIONS_INIT;
    dfx_model *m = NULL;
    o.flags = flags;
    o.n_threads = 2;
    MUST(dfx_engine_create(&o, e, &err));
    MUST(dfx_model_open(*e, f_model, NULL, &m, &err));
    MUST(dfx_pipeline_create(m, "{\"steps\":4,\"sampler\":\"heun\"}", p, &err));
    dfx_model_release(m);
}

/* A job to its end, looked at, saved and sometimes cancelled by the neighbour. */
static void sample(int me, int turn, int pumped)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    dfx_progress at = DFX_PROGRESS_INIT;
    dfx_job *job = NULL;
    dfx_tensor *t = NULL;
    char place[600];
    dfx_status s;
    int next = (me + 1) % THREADS;
    o.seed = 7;
    o.first_sample = (uint64_t)me * 64;
    o.n_samples = 64;
    o.preview_every = 1;
    MUST(dfx_job_start(pipelines[pumped], &o, &job, &err));
    pthread_mutex_lock(&slots[me].lock);
    slots[me].job = job;
    pthread_mutex_unlock(&slots[me].lock);
    if (turn % 3 == 1) {
        pthread_mutex_lock(&slots[next].lock);
        if (slots[next].job) dfx_job_cancel(slots[next].job);
        pthread_mutex_unlock(&slots[next].lock);
    }
    if (dfx_job_preview(job, "x", &t, NULL) == DFX_OK) dfx_tensor_release(t);
    if (turn % 2 == 0) {
        sprintf(place, "%s.job%d", f_model, me);
        s = dfx_job_save(job, place, &err);
        if (s != DFX_OK && s != DFX_E_STATE && s != DFX_E_CANCELLED) check(s, &err, "save");
        remove(place);
    }
    if (pumped && dfx_engine_pump(engines[1], 50) < 0) exit(1);
    MUST(dfx_job_poll(job, &at, &err));
    s = dfx_job_wait(job, DFX_FOREVER, &err);
    if (s == DFX_OK) {
        MUST(dfx_job_result(job, NULL, &t, &err));
        dfx_tensor_release(t);
    } else if (s != DFX_E_CANCELLED) {
        check(s, &err, "wait");
    }
    pthread_mutex_lock(&slots[me].lock);
    slots[me].job = NULL;
    pthread_mutex_unlock(&slots[me].lock);
    dfx_job_release(job);
}

/* An engine that is released while its jobs run, its objects first or last. */
static void alone(int me, int turn)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *a = NULL, *b = NULL;
    open_model(me % 2 ? DFX_ENGINE_NO_THREADS : 0, &e, &p);
    o.n_samples = 64;
    o.n_steps = 200;
    MUST(dfx_job_start(p, &o, &a, &err));
    o.seed = 1;
    MUST(dfx_job_start(p, &o, &b, &err));
    if (turn % 2) {
        dfx_engine_release(e);
        dfx_job_cancel(a);
        dfx_job_release(a);
        dfx_pipeline_release(p);
        dfx_job_release(b);
    } else {
        dfx_job_release(b);
        dfx_pipeline_release(p);
        dfx_job_release(a);
        dfx_engine_release(e);
    }
}

/* What needs no job, on the engine of all. */
static void shared(void)
{
    static const double times[] = { 0.5, 1.0 };
    static const char *const names[] = { "x", "sigma" };
    static const char *const wanted[] = { "x" };
    dfx_error err = DFX_ERROR_INIT;
    dfx_simulate_options o = DFX_SIMULATE_OPTIONS_INIT;
    dfx_eval_options q = DFX_EVAL_OPTIONS_INIT;
    dfx_desc desc;
    dfx_tensor *start = NULL, *sigma = NULL, *t = NULL;
    const dfx_tensor *inputs[2];
    const char *json = NULL;
    uint64_t used, peak;
    memset(&desc, 0, sizeof desc);
    desc.dtype = DFX_F32;
    desc.rank = 1;
    desc.dims[0] = 1;
    MUST(dfx_tensor_create(engines[0], &desc, numbers, &start, &err));
    desc.dims[0] = 4;
    MUST(dfx_tensor_create(engines[0], &desc, numbers, &sigma, &err));
    o.process = "cir";
    o.times = times;
    o.n_times = 2;
    o.n_samples = 500;
    o.x0 = start;
    MUST(dfx_simulate(engines[0], &o, &t, &err));
    dfx_tensor_release(t);
    dfx_tensor_retain(x);
    inputs[0] = x;
    inputs[1] = sigma;
    q.n_inputs = 2;
    q.n_outputs = 1;
    q.input_names = names;
    q.inputs = inputs;
    q.output_names = wanted;
    MUST(dfx_pipeline_eval(pipelines[0], &q, &t, &err));
    dfx_tensor_release(t);
    dfx_tensor_release(x);
    dfx_tensor_release(sigma);
    dfx_tensor_release(start);
    MUST(dfx_factory_json(engines[0], 0, &json, &err));
    MUST(dfx_engine_memory(engines[0], &used, &peak, &err));
}

/* x is this memory and the threads' jobs read it. This one takes no lock, so that nothing orders a write before a read. */
static void write_on(void)
{
    static const struct timespec pause = { 0, 1000000 };
    size_t turn;
    for (turn = 0; turn < 1000; turn++) {
        numbers[turn % (sizeof numbers / sizeof numbers[0])] += 1.0f;
        nanosleep(&pause, NULL);
    }
}

static void *work(void *p)
{
    int me = (int)(size_t)p, turn;
    for (turn = 0; turn < TURNS; turn++) {
        sample(me, me + turn, 0);
        sample(me, me + turn + 1, 1);
        alone(me, turn);
        shared();
        if (!strcmp(plant, "host")) counter++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static const char recipe[] =
        "{\"model\":\"mlp:{\\\"width\\\":8,\\\"depth\\\":1}\",\"process\":\"ve\",\"steps\":1,\"batch\":2,\"warmup\":0}";
    static const char *const names[] = { "x" };
    dfx_error err = DFX_ERROR_INIT;
    dfx_trainer_options o = DFX_TRAINER_OPTIONS_INIT;
    dfx_engine *e = NULL;
    dfx_trainer *t = NULL;
    const dfx_tensor *tables[1];
    dfx_desc desc;
    pthread_t threads[THREADS];
    size_t i;
    if (argc < 2 || strlen(argv[1]) > 400) return 2;
    if (argc > 2) plant = argv[2];
    sprintf(f_model, "%s/threads.safetensors", argv[1]);
    memset(&desc, 0, sizeof desc);
    desc.dtype = DFX_F32;
    desc.rank = 2;
    desc.dims[0] = 4;
    desc.dims[1] = 3;
    MUST(dfx_engine_create(NULL, &e, &err));
    MUST(dfx_tensor_wrap(e, &desc, numbers, NULL, NULL, &x, &err));
    tables[0] = x;
    o.n_tables = 1;
    o.table_names = names;
    o.tables = tables;
    MUST(dfx_trainer_create(e, recipe, &o, &t, &err));
    MUST(dfx_trainer_step(t, 1, NULL, &err));
    MUST(dfx_trainer_save(t, f_model, &err));
    dfx_trainer_release(t);
    dfx_engine_release(e);
    open_model(0, &engines[0], &pipelines[0]);
    open_model(DFX_ENGINE_NO_THREADS, &engines[1], &pipelines[1]);
    for (i = 0; i < THREADS; i++) pthread_mutex_init(&slots[i].lock, NULL);
    for (i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, work, (void *)i)) return 1;
    }
    if (!strcmp(plant, "data")) write_on();
    for (i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    dfx_tensor_release(x);
    for (i = 0; i < 2; i++) {
        dfx_pipeline_release(pipelines[i]);
        dfx_engine_release(engines[i]);
    }
    remove(f_model);
    printf("%d threads, %d turns each%s\nok\n", THREADS, TURNS, counter ? ", counted" : "");
    return 0;
}
