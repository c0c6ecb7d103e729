/* Empirical Bayes under the squared Bessel process: estimate 100 000 noncentrality parameters from one noisy value each,
 * without knowing the law they come from. docs/empirical-bayes.md explains the formulas.
 *
 *   lambda_i = 0 for a share of the i, Gamma(2, scale 10) for the others        (not seen by the estimator)
 *   X_i ~ noncentral chi-square with 7 degrees of freedom and noncentrality lambda_i = BESQ(7) from lambda_i at time 1
 *
 * usage: empirical_bayes SHARE_OF_ZEROS PARAMETERS STEPS MODEL_FILE */
#include "diffx.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DELTA 7.0
#define SLAB_SEED 11
#define NOISE_SEED 12

static void check(dfx_status s, const dfx_error *err, const char *what)
{
    if (s != DFX_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, dfx_status_name(s), err->message);
        exit(1);
    }
}

static double *numbers(size_t n)
{
    double *p = (double *)malloc(n * sizeof *p);
    if (!p) {
        fprintf(stderr, "no memory for %lu numbers\n", (unsigned long)n);
        exit(1);
    }
    return p;
}

/* Exact draws of a process at one time, one path per start. */
static void paths(dfx_engine *e, const char *process, double time, uint64_t seed, const double *start, double *out, size_t n)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_simulate_options opt = DFX_SIMULATE_OPTIONS_INIT;
    dfx_desc d = { DFX_F64, 2, { 0 } };
    dfx_tensor *x0 = NULL, *x = NULL;
    const void *data = NULL;
    size_t bytes = 0;
    d.dims[0] = (int64_t)n;
    d.dims[1] = 1;
    check(dfx_tensor_create(e, &d, start, &x0, &err), &err, "starts");
    opt.flags = DFX_SIMULATE_PER_SAMPLE;
    opt.seed = seed;
    opt.n_samples = n;
    opt.n_times = 1;
    opt.process = process;
    opt.times = &time;
    opt.x0 = x0;
    check(dfx_simulate(e, &opt, &x, &err), &err, "simulate");
    check(dfx_tensor_map(x, &data, &bytes, &err), &err, "map");
    memcpy(out, data, n * sizeof *out);
    dfx_tensor_release(x);
    dfx_tensor_release(x0);
}

/* Learns D(r) = E[√lambda R(r √lambda) | r] from X alone and writes the model. */
static void learn(dfx_engine *e, const double *data, size_t n, const char *model, unsigned steps)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_training at = DFX_TRAINING_INIT;
    dfx_trainer_options opt = DFX_TRAINER_OPTIONS_INIT;
    dfx_desc d = { DFX_F64, 2, { 0 } };
    dfx_tensor *x = NULL;
    const dfx_tensor *tables[1];
    const char *names[] = { "x" };
    dfx_trainer *t = NULL;
    char recipe[1024];
    d.dims[0] = (int64_t)n;
    d.dims[1] = 1;
    check(dfx_tensor_create(e, &d, data, &x, &err), &err, "data");
    tables[0] = x;
    opt.n_tables = 1;
    opt.table_names = names;
    opt.tables = tables;
    sprintf(recipe,
            "{\"model\":\"mlp:{\\\"width\\\":64,\\\"depth\\\":2}\","
            "\"process\":\"besq:{\\\"delta\\\":7}\",\"objective\":\"ism:{\\\"sigma\\\":1}\","
            "\"steps\":%u,\"batch\":1024,\"rate\":0.003,\"ema\":0.998,\"seed\":1}",
            steps);
    check(dfx_trainer_create(e, recipe, &opt, &t, &err), &err, "trainer");
    dfx_tensor_release(x);
    do {
        check(dfx_trainer_step(t, steps < 10 ? 1 : steps / 10, &at, &err), &err, "step");
        printf("step %5lu  loss %.4f\n", (unsigned long)at.step, at.loss);
        fflush(stdout);
    } while (at.step < at.n_steps);
    check(dfx_trainer_save(t, model, &err), &err, "save");
    dfx_trainer_release(t);
}

/* D and dD/dr at every r. */
static void denoise(dfx_engine *e, const char *path, const double *r, double *d, double *slope, size_t n)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_eval_options opt = DFX_EVAL_OPTIONS_INIT;
    dfx_desc rows = { DFX_F64, 1, { 0 } }, shape = { DFX_F64, 2, { 0 } };
    const char *in[] = { "x", "sigma" }, *out[] = { "x", "grad.x" };
    const dfx_tensor *inputs[2];
    dfx_tensor *x = NULL, *sigma = NULL, *results[2] = { NULL, NULL };
    dfx_model *m = NULL;
    dfx_pipeline *p = NULL;
    double *ones = numbers(n), *to[2];
    size_t i, bytes;
    for (i = 0; i < n; i++) ones[i] = 1.0;
    rows.dims[0] = shape.dims[0] = (int64_t)n;
    shape.dims[1] = 1;
    check(dfx_model_open(e, path, NULL, &m, &err), &err, "open");
    check(dfx_pipeline_create(m, "{\"dtype\":\"f64\"}", &p, &err), &err, "pipeline");
    check(dfx_tensor_create(e, &shape, r, &x, &err), &err, "r");
    check(dfx_tensor_create(e, &rows, ones, &sigma, &err), &err, "sigma");
    inputs[0] = x;
    inputs[1] = sigma;
    opt.n_inputs = opt.n_outputs = 2;
    opt.input_names = in;
    opt.inputs = inputs;
    opt.output_names = out;
    check(dfx_pipeline_eval(p, &opt, results, &err), &err, "eval");
    to[0] = d;
    to[1] = slope;
    for (i = 0; i < 2; i++) {
        const void *data = NULL;
        check(dfx_tensor_map(results[i], &data, &bytes, &err), &err, "map");
        memcpy(to[i], data, n * sizeof *d);
        dfx_tensor_release(results[i]);
    }
    dfx_tensor_release(sigma);
    dfx_tensor_release(x);
    dfx_pipeline_release(p);
    dfx_model_release(m);
    free(ones);
}

int main(int argc, char **argv)
{
    dfx_error err = DFX_ERROR_INIT;
    dfx_engine *e = NULL;
    double zeros, *lambda, *x, *r, *d, *slope, risk = 0, naive = 0, positive = 0;
    size_t n, i;
    unsigned steps;
    if (argc != 5) {
        fprintf(stderr, "usage: %s SHARE_OF_ZEROS PARAMETERS STEPS MODEL_FILE\n", argv[0]);
        return 2;
    }
    zeros = atof(argv[1]);
    n = (size_t)atol(argv[2]);
    steps = (unsigned)atol(argv[3]);
    check(dfx_engine_create(NULL, &e, &err), &err, "engine");

    /* chi-square with 4 degrees of freedom times 5 is Gamma(2, scale 10): BESQ(4) from (nearly) 0 at time 5 */
    lambda = numbers(n), x = numbers(n), r = numbers(n), d = numbers(n), slope = numbers(n);
    for (i = 0; i < n; i++) r[i] = 1e-300;
    paths(e, "besq:{\"delta\":4}", 5.0, SLAB_SEED, r, lambda, n);
    for (i = 0; i < n; i++)
        if ((double)(i % 100) < 100.0 * zeros) lambda[i] = 1e-300;
    paths(e, "besq:{\"delta\":7}", 1.0, NOISE_SEED, lambda, x, n);

    learn(e, x, n, argv[4], steps);
    for (i = 0; i < n; i++) r[i] = sqrt(x[i]);
    denoise(e, argv[4], r, d, slope, n);

    for (i = 0; i < n; i++) {
        /* second-order Tweedie at sigma = 1: E[lambda | r] = D² + dD/dr + (delta - 1) D/r */
        double mean = d[i] * d[i] + slope[i] + (DELTA - 1.0) * d[i] / r[i];
        double gap = mean - lambda[i], plain = x[i] - DELTA - lambda[i], cut = x[i] > DELTA ? plain : -lambda[i];
        risk += gap * gap;
        naive += plain * plain;
        positive += cut * cut;
    }
    printf("mean squared error over %lu parameters: learned %.3f, X-7 %.3f, (X-7)+ %.3f\n", (unsigned long)n,
           risk / (double)n, naive / (double)n, positive / (double)n);
    free(lambda), free(x), free(r), free(d), free(slope);
    dfx_engine_release(e);
    return 0;
}
