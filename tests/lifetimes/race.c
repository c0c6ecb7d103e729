/* A host that pumps on one thread and waits on another never sees a job that is neither over nor done. */
#include "host.h"

static dfx_engine *e;
static volatile int stop;

static void *pump(void *user)
{
    while (!stop) dfx_engine_pump(e, 1000);
    return user;
}

int main(void)
{
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    pthread_t t;
    int i, bad = 0;
    time_t end;
    e = engine(NULL, DFX_ENGINE_NO_THREADS, 1);
    MUST(dfx_model_open(e, "vix", NULL, &m, &err));
    MUST(dfx_pipeline_create(m, "{\"steps\":1,\"sampler\":\"euler\"}", &p, &err));
    REQUIRE(!pthread_create(&t, NULL, pump, NULL));
    end = time(NULL) + 4;
    for (i = 0; time(NULL) < end; i++) {
        dfx_error err = DFX_ERROR_INIT;
        dfx_tensor *x = NULL;
        dfx_job *j = start(p, 1);
        if (dfx_job_wait(j, DFX_FOREVER, &err) || dfx_job_result(j, "x", &x, &err)) {
            if (!bad++) fprintf(stderr, "job %d: %s\n", i, err.message);
        }
        dfx_tensor_release(x);
        dfx_job_release(j);
    }
    stop = 1;
    pthread_join(t, NULL);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    dfx_engine_release(e);
    printf("%d of %d waits failed\n", bad, i);
    REQUIRE(bad == 0 && i > 100);
    puts("ok");
    return 0;
}
