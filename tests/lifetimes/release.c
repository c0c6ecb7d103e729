/* After the last release nothing of the library runs: no callback, no call of the host's allocator.
 * usage: release CASE [CSV] */
#include "host.h"

static const char LONG[] = "{\"steps\":100,\"batch\":4096}";
#define MANY (1u << 18)

/* The arena is gone; whoever still comes is counted. */
static void gone(arena *a)
{
    int live = a->live;
    a->gone = 1;
    pause_ms(400);
    if (live || a->late) {
        fprintf(stderr, "%d blocks were out, %d calls came later\n", live, a->late);
        exit(1);
    }
    REQUIRE(a->calls > 0);
}

/* Everything is released while jobs run and wait, the engine last or first. */
static void running(uint32_t flags, int engine_first)
{
    arena a = {0, 0, 0, 0};
    dfx_engine *e = engine(&a, flags, 2);
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *j, *queued;
    MUST(dfx_model_open(e, "vix", NULL, &m, &err));
    MUST(dfx_pipeline_create(m, LONG, &p, &err));
    j = start(p, MANY);
    queued = start(p, MANY);
    if (flags & DFX_ENGINE_NO_THREADS) {
        REQUIRE(dfx_engine_pump(e, 20000) == 2);
    } else {
        until_it_runs(j);
    }
    if (engine_first) {
        dfx_engine_release(e);
        dfx_model_release(m);
        dfx_pipeline_release(p);
        dfx_job_release(queued);
        dfx_job_release(j);
    } else {
        dfx_job_release(j);
        dfx_job_release(queued);
        dfx_pipeline_release(p);
        dfx_model_release(m);
        dfx_engine_release(e);
    }
    gone(&a);
}

/* DLManagedTensorVersioned, as far as its deleter. */
typedef struct managed {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct managed *);
} managed;

/* Tensors and exports hold their memory, whatever else was released; their end is the end. */
static void tensors(void)
{
    arena a = {0, 0, 0, 0};
    dfx_engine *e = engine(&a, 0, 2);
    dfx_desc d;
    dfx_tensor *t = NULL;
    struct DLManagedTensorVersioned *out = NULL;
    const void *data = NULL;
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *j;
    memset(&d, 0, sizeof d);
    d.dtype = DFX_F32;
    d.rank = 1;
    d.dims[0] = 1000;
    MUST(dfx_model_open(e, "vix", NULL, &m, &err));
    MUST(dfx_pipeline_create(m, LONG, &p, &err));
    j = start(p, MANY);
    until_it_runs(j);
    MUST(dfx_tensor_create(e, &d, NULL, &t, &err));
    MUST(dfx_tensor_to_dlpack(t, NULL, &out, &err));
    dfx_job_release(j);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    dfx_engine_release(e);
    REQUIRE(a.live == 1);
    MUST(dfx_tensor_map(t, &data, NULL, &err));
    REQUIRE(((const float *)data)[999] == 0.0f);
    dfx_tensor_release(t);
    REQUIRE(a.live == 1);
    ((managed *)out)->deleter((managed *)out);
    gone(&a);
}

/* An export of ours that came back as an input of a job holds nothing but its memory. */
static void round_trip(void)
{
    arena a = {0, 0, 0, 0};
    float data[HISTORY];
    dfx_engine *e = engine(&a, 0, 2);
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_tensor *lent, *back = NULL;
    struct DLManagedTensorVersioned *out = NULL;
    dfx_job *j;
    MUST(dfx_model_open(e, "vix", NULL, &m, &err));
    MUST(dfx_pipeline_create(m, LONG, &p, &err));
    lent = history(e, data, NULL, NULL);
    MUST(dfx_tensor_to_dlpack(lent, NULL, &out, &err));
    MUST(dfx_tensor_from_dlpack(e, out, NULL, &back, &err));
    j = start_with(p, back, MANY);
    until_it_runs(j);
    dfx_engine_release(e);
    dfx_model_release(m);
    dfx_pipeline_release(p);
    dfx_tensor_release(lent);
    dfx_tensor_release(back);
    dfx_job_release(j);
    gone(&a);
}

static void trainer(const char *csv, uint32_t flags, int engine_first)
{
    arena a = {0, 0, 0, 0};
    dfx_engine *e = engine(&a, flags, 2);
    dfx_trainer *t = NULL;
    char recipe[1024];
    snprintf(recipe, sizeof recipe,
             "{\"data\":{\"path\":\"%s\",\"window\":8,\"history\":4},\"process\":\"ve\",\"steps\":6,\"batch\":2,"
             "\"model\":{\"id\":\"temporal\",\"config\":{\"width\":8,\"heads\":2,\"depth\":1}}}", csv);
    MUST(dfx_trainer_create(e, recipe, NULL, &t, &err));
    MUST(dfx_trainer_step(t, 2, NULL, &err));
    if (engine_first) {
        dfx_engine_release(e);
        MUST(dfx_trainer_step(t, 1, NULL, &err));
        dfx_trainer_release(t);
    } else {
        dfx_trainer_release(t);
        dfx_engine_release(e);
    }
    gone(&a);
}

/* ---- released by a callback */

static dfx_engine *held;
static volatile int freed;

static void DFX_CALL let_go(void *user, void *data) DFX_NOEXCEPT
{
    (void)data;
    (void)user;
    dfx_engine_release(held);
    freed = 1;
}

/* The last handle is released by free_fn on the engine's own thread: it cannot wait for itself, but it ends. */
static void on_its_own_thread(void)
{
    static arena a;
    static float data[HISTORY];
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_tensor *t;
    dfx_job *j;
    int i;
    held = engine(&a, 0, 2);
    MUST(dfx_model_open(held, "vix", NULL, &m, &err));
    MUST(dfx_pipeline_create(m, LONG, &p, &err));
    t = history(held, data, let_go, NULL);
    j = start_with(p, t, MANY);
    until_it_runs(j);
    dfx_tensor_release(t);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    dfx_job_release(j);
    for (i = 0; i < 10000 && !(freed && a.live == 0); i++) pause_ms(1);
    REQUIRE(freed && a.live == 0);
    pause_ms(50); /* the thread comes to its end */
}

typedef struct everything {
    dfx_engine *e;
    dfx_model *m;
    dfx_pipeline *p;
    dfx_job *j;
    int calls;
} everything;

static int32_t DFX_CALL release_all(void *user, dfx_job *j, const dfx_progress *at) DFX_NOEXCEPT
{
    everything *all = (everything *)user;
    (void)at;
    if (all->calls++) return 0;
    dfx_engine_release(all->e);
    dfx_model_release(all->m);
    dfx_pipeline_release(all->p);
    dfx_job_release(j);
    return 0;
}

/* Everything, the job that is waited for included, is released inside its progress callback. */
static void in_progress(uint32_t flags)
{
    arena a = {0, 0, 0, 0};
    everything all;
    dfx_job_options o = DFX_JOB_OPTIONS_INIT;
    dfx_status s;
    memset(&all, 0, sizeof all);
    all.e = engine(&a, flags, 2);
    MUST(dfx_model_open(all.e, "vix", NULL, &all.m, &err));
    MUST(dfx_pipeline_create(all.m, LONG, &all.p, &err));
    o.n_samples = MANY;
    o.progress = release_all;
    o.user = &all;
    MUST(dfx_job_start(all.p, &o, &all.j, &err));
    s = dfx_job_wait(all.j, DFX_FOREVER, NULL);
    REQUIRE(s == DFX_E_CANCELLED && all.calls > 0);
    gone(&a);
}

static dfx_job *waited;

static void DFX_CALL let_job_go(void *user, void *data) DFX_NOEXCEPT
{
    (void)user;
    (void)data;
    freed = 1;
    dfx_job_release(waited);
    dfx_engine_release(held);
}

/* free_fn of an input, called while the job ends inside dfx_job_wait, releases that very job and the engine. */
static void by_an_input(void)
{
    arena a = {0, 0, 0, 0};
    float data[HISTORY];
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_tensor *t;
    held = engine(&a, DFX_ENGINE_NO_THREADS, 1);
    MUST(dfx_model_open(held, "vix", NULL, &m, &err));
    MUST(dfx_pipeline_create(m, "{\"steps\":2}", &p, &err));
    t = history(held, data, let_job_go, NULL);
    waited = start_with(p, t, 3);
    dfx_tensor_release(t);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    MUST(dfx_job_wait(waited, DFX_FOREVER, &err));
    REQUIRE(freed);
    gone(&a);
}

/* ---- many threads */

static volatile int stop;

static void *churn(void *user)
{
    unsigned seed = (unsigned)(size_t)user;
    int rounds = 0;
    while (!stop) {
        arena a = {0, 0, 0, 0};
        uint32_t flags = seed % 3 == 0 ? DFX_ENGINE_NO_THREADS : 0;
        dfx_engine *e = engine(&a, flags, 1 + seed % 2);
        dfx_model *m = NULL;
        dfx_pipeline *p = NULL;
        dfx_tensor *x = NULL;
        dfx_job *j, *k;
        MUST(dfx_model_open(e, "vix", NULL, &m, &err));
        MUST(dfx_pipeline_create(m, "{\"steps\":2,\"batch\":64}", &p, &err));
        if (seed & 8) dfx_engine_release(e), e = NULL;
        j = start(p, 1 + seed % 200);
        k = start(p, 1 + seed % 50);
        if (seed & 16) dfx_pipeline_release(p), p = NULL;
        if (seed & 32) pause_ms(seed / 64 % 5);
        if (seed & 2048) {
            MUST(dfx_job_wait(k, DFX_FOREVER, &err));
            MUST(dfx_job_result(k, "x", &x, &err));
        }
        if (seed & 4096) dfx_job_release(j), j = NULL;
        dfx_model_release(m);
        dfx_engine_release(e);
        dfx_job_release(k);
        dfx_pipeline_release(p);
        dfx_job_release(j);
        dfx_tensor_release(x);
        REQUIRE(a.live == 0);
        a.gone = 1;
        if (seed % 5 == 0) pause_ms(1);
        REQUIRE(a.late == 0);
        seed = seed * 1664525u + 1013904223u;
        seed ^= seed >> 13;
        rounds++;
    }
    return (void *)(size_t)rounds;
}

/* One engine, and threads that start and release jobs of it; whoever is last lets it go. */
static arena common;
static dfx_pipeline *shared[4];

static void *use(void *user)
{
    dfx_pipeline *p = shared[(size_t)user];
    unsigned i;
    for (i = 0; !stop; i++) {
        dfx_job *j = start(p, 1 + i % 300);
        if (i % 3 == 0) MUST(dfx_job_wait(j, DFX_FOREVER, &err));
        dfx_job_release(j);
    }
    dfx_pipeline_release(p);
    return NULL;
}

static void stress(void)
{
    pthread_t threads[8];
    dfx_engine *e = engine(&common, 0, 2);
    dfx_model *m = NULL;
    size_t i, rounds = 0;
    MUST(dfx_model_open(e, "vix", NULL, &m, &err));
    for (i = 0; i < 4; i++) MUST(dfx_pipeline_create(m, "{\"steps\":2,\"batch\":64}", &shared[i], &err));
    dfx_model_release(m);
    dfx_engine_release(e);
    for (i = 0; i < 4; i++) REQUIRE(!pthread_create(&threads[i], NULL, use, (void *)i));
    for (; i < 8; i++) REQUIRE(!pthread_create(&threads[i], NULL, churn, (void *)(i * 7919 + 1)));
    pause_ms(1500);
    stop = 1;
    for (i = 0; i < 8; i++) {
        void *n = NULL;
        pthread_join(threads[i], &n);
        rounds += (size_t)n;
    }
    printf("%lu engines came and went\n", (unsigned long)rounds);
    REQUIRE(rounds > 0);
    gone(&common);
}

int main(int argc, char **argv)
{
    const char *of = argc > 1 ? argv[1] : "";
    if (!strcmp(of, "running")) {
        running(0, 0);
        running(0, 1);
    } else if (!strcmp(of, "no_threads")) {
        running(DFX_ENGINE_NO_THREADS, 0);
        running(DFX_ENGINE_NO_THREADS, 1);
    } else if (!strcmp(of, "tensors")) {
        tensors();
        round_trip();
    } else if (!strcmp(of, "trainer") && argc > 2) {
        trainer(argv[2], 0, 0);
        trainer(argv[2], 0, 1);
        trainer(argv[2], DFX_ENGINE_NO_THREADS, 0);
    } else if (!strcmp(of, "own_thread")) {
        on_its_own_thread();
    } else if (!strcmp(of, "callback")) {
        in_progress(0);
        in_progress(DFX_ENGINE_NO_THREADS);
        by_an_input();
    } else if (!strcmp(of, "stress")) {
        stress();
    } else {
        return 2;
    }
    puts("ok");
    return 0;
}
