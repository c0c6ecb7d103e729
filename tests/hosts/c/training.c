/* A C host that trains: steps in 7s over 20, looks on, stops and resumes from a checkpoint, opens what it made.
 * usage: training DATA CHECKPOINT MODEL OTHER_MODEL */
#include "diffx.h"

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

static dfx_trainer *trainer(dfx_engine *e, const char *data)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_trainer *t = NULL;
    char recipe[1024];
    require(strlen(data) < 700, "a path of sensible length");
    sprintf(recipe,
            "{\"data\":{\"path\":\"%s\",\"column\":\"level\",\"window\":8,\"split\":\"2001-01-01\"},"
            "\"model\":\"mlp:{\\\"width\\\":8,\\\"depth\\\":1}\",\"process\":\"cir\",\"steps\":20,\"batch\":4,\"seed\":3}",
            data);
    check(dfx_trainer_create(e, recipe, NULL, &t, &err), &err, "trainer");
    return t;
}

/* The natural loop: it ends by itself. Returns the calls it took. */
static int finish(dfx_trainer *t, dfx_training *at)
{
    dfx_error err = DFX_ERROR_INIT;
    int calls = 0;
    do {
        uint64_t before = at->step;
        check(dfx_trainer_step(t, 7, at, &err), &err, "step");
        require(at->n_steps == 20 && at->step > before && at->step <= 20, "steps are made");
        require(at->loss == at->loss && at->norm > 0, "there is a loss and a gradient");
        calls++;
    } while (at->step < at->n_steps);
    return calls;
}

static int same(const dfx_tensor *x, const dfx_tensor *y)
{
    dfx_error err = DFX_ERROR_INIT;
    const void *a = NULL, *b = NULL;
    size_t n = 0, k = 0;
    check(dfx_tensor_map(x, &a, &n, &err), &err, "map");
    check(dfx_tensor_map(y, &b, &k, &err), &err, "map");
    return n == k && n > 0 && memcmp(a, b, n) == 0;
}

static dfx_tensor *sample(dfx_engine *e, const char *path)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_job_options opt = DFX_JOB_OPTIONS_INIT;
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    dfx_job *job = NULL;
    dfx_tensor *x = NULL;
    check(dfx_model_open(e, path, NULL, &m, &err), &err, "open");
    check(dfx_pipeline_create(m, "{\"steps\":4}", &p, &err), &err, "pipeline");
    opt.n_samples = 5;
    check(dfx_job_start(p, &opt, &job, &err), &err, "start");
    check(dfx_job_wait(job, DFX_FOREVER, &err), &err, "wait");
    check(dfx_job_result(job, NULL, &x, &err), &err, "result");
    dfx_job_release(job);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    return x;
}

int main(int argc, char **argv)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine *e = NULL;
    dfx_trainer *t = NULL, *again = NULL;
    dfx_training at = DFX_TRAINING_INIT, held = DFX_TRAINING_INIT, past = DFX_TRAINING_INIT;
    dfx_tensor *x = NULL, *y = NULL;
    double last;
    require(argc == 5, "usage: training DATA CHECKPOINT MODEL OTHER_MODEL");
    check(dfx_engine_create(NULL, &e, &err), &err, "engine");
    t = trainer(e, argv[1]);
    check(dfx_trainer_step(t, 7, &at, &err), &err, "step");
    require(at.step == 7 && at.n_steps == 20, "seven steps");
    check(dfx_trainer_checkpoint(t, argv[2], &err), &err, "checkpoint");
    require(finish(t, &at) == 2, "7, 14, 20");
    last = at.loss;
    check(dfx_trainer_step(t, 100, &past, &err), &err, "step past the end");
    require(past.step == 20 && past.loss == last, "none are left, nothing changes");
    check(dfx_trainer_step(t, 0, NULL, &err), &err, "step past the end without asking");
    check(dfx_trainer_measure(t, &held, &err), &err, "measure");
    require(held.loss == held.loss && held.step == 20, "a held-out loss");
    check(dfx_trainer_save(t, argv[3], &err), &err, "save");

    again = trainer(e, argv[1]);
    check(dfx_trainer_resume(again, argv[2], &err), &err, "resume");
    memset(&at, 0, sizeof at);
    at.struct_size = (uint32_t)sizeof at;
    at.step = 7;
    require(finish(again, &at) == 2, "from 7 on");
    require(at.loss == last, "a resumed training has the same loss");
    check(dfx_trainer_save(again, argv[4], &err), &err, "save");
    dfx_trainer_release(t);
    dfx_trainer_release(again);

    x = sample(e, argv[3]);
    y = sample(e, argv[4]);
    require(same(x, y), "and the same model, to the bit");
    dfx_tensor_release(x);
    dfx_tensor_release(y);
    dfx_engine_release(e);
    puts("ok");
    return 0;
}
