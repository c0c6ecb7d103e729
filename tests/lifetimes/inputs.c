/* A job that is over holds none of its inputs, and free_fn runs under no lock of the library.
 * usage: inputs CASE */
#include "host.h"

static dfx_pipeline *pipeline;
static volatile int freed;
static int again;
static dfx_job *more;

static void DFX_CALL on_free(void *user, void *data) DFX_NOEXCEPT
{
    (void)user;
    (void)data;
    freed++;
    if (again) MUST(dfx_job_start(pipeline, NULL, &more, &err));
}

static void set_up(uint32_t flags, dfx_engine **e, dfx_model **m)
{
    *e = engine(NULL, flags, 1);
    MUST(dfx_model_open(*e, "vix", NULL, m, &err));
    MUST(dfx_pipeline_create(*m, "{\"steps\":2}", &pipeline, &err));
}

static void tear_down(dfx_engine *e, dfx_model *m)
{
    dfx_pipeline_release(pipeline);
    dfx_model_release(m);
    dfx_engine_release(e);
}

static void expect(int n)
{
    int i;
    for (i = 0; i < 5000 && freed != n; i++) pause_ms(1);
    REQUIRE(freed == n);
}

/* The pipeline lives on; job and tensor are released in either order; the job was waited for, or not. */
static void given_back(uint32_t flags)
{
    dfx_engine *e;
    dfx_model *m;
    float data[HISTORY];
    int i;
    set_up(flags, &e, &m);
    freed = 0;
    for (i = 0; i < 4; i++) {
        dfx_tensor *t = history(e, data, on_free, NULL);
        dfx_job *j = start_with(pipeline, t, 3);
        if (i & 1) dfx_tensor_release(t);
        if (i & 2) MUST(dfx_job_wait(j, DFX_FOREVER, &err));
        if ((i & 3) == 3) expect(i + 1); /* over, and the tensor is released: that is enough */
        dfx_job_release(j);
        if (!(i & 1)) {
            REQUIRE(freed == i);
            dfx_tensor_release(t);
        }
        expect(i + 1);
    }
    tear_down(e, m);
}

/* free_fn starts another job of the same pipeline while a job ends. */
static void starts_a_job(uint32_t flags)
{
    dfx_engine *e;
    dfx_model *m;
    float data[HISTORY];
    dfx_tensor *t;
    dfx_job *a, *b;
    set_up(flags, &e, &m);
    freed = 0;
    again = 1;
    t = history(e, data, on_free, NULL);
    a = start_with(pipeline, t, 3);
    b = start(pipeline, 3);
    dfx_tensor_release(t);
    MUST(dfx_job_wait(a, DFX_FOREVER, &err));
    MUST(dfx_job_wait(b, DFX_FOREVER, &err));
    expect(1);
    while (!*(dfx_job *volatile *)&more) pause_ms(1);
    MUST(dfx_job_wait(more, DFX_FOREVER, &err));
    dfx_job_release(a);
    dfx_job_release(b);
    dfx_job_release(more);
    again = 0;
    tear_down(e, m);
}

/* A job that fails or is cancelled gives its inputs back as well. */
static void cancelled(uint32_t flags)
{
    dfx_engine *e;
    dfx_model *m;
    float data[HISTORY];
    dfx_tensor *t;
    dfx_job *j;
    set_up(flags, &e, &m);
    freed = 0;
    t = history(e, data, on_free, NULL);
    j = start_with(pipeline, t, 100000);
    dfx_tensor_release(t);
    dfx_job_cancel(j);
    REQUIRE(dfx_job_wait(j, DFX_FOREVER, NULL) == DFX_E_CANCELLED);
    expect(1);
    dfx_job_release(j);
    tear_down(e, m);
}

int main(int argc, char **argv)
{
    const char *of = argc > 1 ? argv[1] : "";
    uint32_t flags;
    for (flags = 0; flags <= DFX_ENGINE_NO_THREADS; flags++) {
        if (!strcmp(of, "given_back")) given_back(flags);
        else if (!strcmp(of, "starts_a_job")) more = NULL, starts_a_job(flags);
        else if (!strcmp(of, "cancelled")) cancelled(flags);
        else return 2;
    }
    puts("ok");
    return 0;
}
