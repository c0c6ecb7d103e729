/* plugin.c - frozen: one of every kind (model, process, guidance, sampler, grid, objective), with most ops and attributes
 * by their codes, as they were written for the headers beside this file. tests/gate builds it against those headers and
 * against today's, and runs it on today's engine. Never edited. */
#define DFX_HELPERS
#include "diffx_plugin.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct self { const dfx_host *host; double range; } self;
#define HOST(p) (((const self *)(p))->host)
#define E(p) (HOST(p)->graph)
#define UNUSED (void)self_, (void)err
#define TELL(name, type) static dfx_status DFX_CALL name(const void *self_, type *out, dfx_error *err)
#define BUILD(name, type) static dfx_status DFX_CALL name(const void *self_, dfx_graph *g, type *io, dfx_error *err)
#define ADD(a, b) dfx_add(e, g, a, b)
#define SUB(a, b) dfx_sub(e, g, a, b)
#define MUL(a, b) dfx_mul(e, g, a, b)
#define NUM(x) e->scalar(g, x)

static dfx_status DFX_CALL create(const dfx_factory *f, const dfx_host *h, const char *json, void **out, dfx_error *err)
{
    self *p = (self *)h->alloc(h, sizeof(self), 16);
    const char *range = strstr(json, "\"range\":");
    (void)f;
    if (json[0] != '{') return dfx_fail(err, DFX_E_FORMAT, "want an object");
    if (p == NULL) return DFX_E_NO_MEMORY;
    p->host = h;
    p->range = range == NULL ? 80.0 : strtod(range + 8, NULL);
    h->log(h, 3, "made");
    *out = p;
    return DFX_OK;
}
static void DFX_CALL destroy(void *p)
{
    const dfx_host *h = ((self *)p)->host;
    h->free(h, p, sizeof(self), 16);
}

static dfx_node with(const dfx_graph_api *e, dfx_graph *g, dfx_op op, dfx_node a, dfx_attr one, dfx_attr two)
{
    dfx_attr attr[2];
    attr[0] = one;
    attr[1] = two;
    return dfx_emit(e, g, op, &a, 1, attr, two.key == 0 ? 1 : 2);
}
static dfx_node op3(const dfx_graph_api *e, dfx_graph *g, dfx_op op, dfx_node a, dfx_node b, dfx_node c)
{
    dfx_node in[3];
    in[0] = a, in[1] = b, in[2] = c;
    return dfx_emit(e, g, op, in, 3, NULL, 0);
}
static const dfx_attr none = { 0, 0, 0, 0.0, NULL, NULL };
static dfx_attr whole(uint32_t key, int64_t i) { return dfx_attr_int(key, i); }

/* ---- process: w = x, perturbed by Gaussian noise */
static dfx_status DFX_CALL process_info(const void *self_, const dfx_stats *stats, dfx_process_info *out, dfx_error *err)
{
    UNUSED;
    out->space = DFX_SPACE_CONTINUOUS;
    out->flags = DFX_PROCESS_IS_ADDITIVE | DFX_PROCESS_IS_HOMOGENEOUS;
    out->sigma_min = 0.002 * sqrt(stats->w_var);
    out->sigma_max = ((const self *)self_)->range * sqrt(stats->w_var);
    return DFX_OK;
}
static dfx_status DFX_CALL clock_(const void *self_, const double *t, uint32_t n, double *sigma, dfx_error *err)
{
    uint32_t i;
    UNUSED;
    for (i = 0; i < n; i++) sigma[i] = sqrt(t[i]);
    return DFX_OK;
}
BUILD(same, dfx_process_io)
{
    UNUSED; (void)g;
    io->out[0] = io->in[0];
    return DFX_OK;
}
BUILD(perturb, dfx_process_io)
{
    const dfx_graph_api *e = E(self_);
    dfx_node xi = dfx_normal_like(e, g, io->in[0], io->purpose);
    UNUSED;
    io->out[0] = ADD(io->in[0], MUL(io->in[1], xi));
    io->out[1] = io->in[0];
    return DFX_OK;
}
BUILD(prior, dfx_process_io)
{
    UNUSED;
    io->out[0] = dfx_mul(E(self_), g, io->in[0], dfx_normal(E(self_), g, &io->component->desc, io->purpose));
    return DFX_OK;
}
BUILD(precond, dfx_process_io)
{
    const dfx_graph_api *e = E(self_);
    double v = io->stats->w_var;
    dfx_node square = dfx_square(e, g, io->in[0]), total = ADD(square, NUM(v)), in = dfx_rsqrt(e, g, total);
    dfx_node root = MUL(io->in[0], NUM(sqrt(v))), log = dfx_log(e, g, io->in[0]);
    UNUSED;
    io->out[0] = dfx_div(e, g, NUM(v), total);
    io->out[1] = MUL(root, in);
    io->out[2] = in;
    io->out[3] = MUL(log, NUM(0.25));
    io->out[4] = dfx_div(e, g, total, MUL(square, NUM(v)));
    return DFX_OK;
}
BUILD(renoise, dfx_process_io)
{
    const dfx_graph_api *e = E(self_);
    dfx_node hat = dfx_square(e, g, io->in[2]), now = dfx_square(e, g, io->in[1]);
    dfx_node spread = dfx_sqrt(e, g, SUB(hat, now)), xi = dfx_normal_like(e, g, io->in[0], io->purpose);
    UNUSED;
    io->out[0] = ADD(io->in[0], MUL(spread, xi));
    return DFX_OK;
}
BUILD(sde, dfx_process_io) /* a pull to 0, so that its Euler paths are told from the exact ones */
{
    const dfx_graph_api *e = E(self_);
    UNUSED;
    io->out[0] = MUL(io->in[0], NUM(-0.5));
    io->out[1] = NUM(1.0);
    return DFX_OK;
}
static dfx_status DFX_CALL fit(const void *self_, dfx_fit *io, dfx_error *err)
{
    UNUSED;
    if (io->n_values == 0 || io->n_out == 0) return dfx_fail(err, DFX_E_INVALID, "nothing to fit");
    io->out[0].key = "range";
    io->out[0].value = 20.0;
    io->out[0].group = 0;
    io->n_out = 1;
    return DFX_OK;
}
static const dfx_process_api process_api = { sizeof(dfx_process_api), 0, process_info, clock_, same, same, perturb, prior,
    precond, renoise, NULL, NULL, NULL, NULL, NULL, sde, fit };

/* ---- model: one layer on two numbers */
static const dfx_component state = { { 0, 1, { 2 } }, DFX_SPACE_CONTINUOUS, 0, "x", NULL };
static const dfx_cond shift = { { 0, 1, { 2 } }, 0.5, "shift", NULL };
TELL(model_info, dfx_model_info)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_RESIDUAL;
    out->n_components = 1;
    out->components = &state;
    out->n_conds = 1;
    out->conds = &shift;
    return DFX_OK;
}
BUILD(model_build, dfx_model_io)
{
    const dfx_graph_api *e = E(self_);
    dfx_desc two, square;
    dfx_init small = { DFX_INIT_NORMAL, 0, 0.5 }, tenth = { DFX_INIT_CONSTANT, 0, 0.1 };
    dfx_node in[3], level;
    dfx_attr attr[2];
    int64_t shape[2] = { -1, 1 };
    UNUSED;
    memset(&two, 0, sizeof two);
    two.rank = 1;
    two.dims[0] = 2;
    square = two;
    square.rank = 2;
    square.dims[1] = 2;
    e->push(g, "layer");
    in[0] = ADD(io->x[0], io->cond[0]);
    in[1] = e->weight(g, "w", &square, &small);
    in[2] = e->weight(g, "b", &two, &tenth);
    attr[0] = whole(DFX_ATTR_TRANS_B, 1);
    attr[1] = whole(DFX_ATTR_ACT, DFX_OP_TANH);
    io->out[0] = dfx_emit(e, g, DFX_OP_MATMUL, in, 3, attr, 2);
    e->pop(g);
    level = with(e, g, DFX_OP_RESHAPE, io->sigma[0], dfx_attr_ints(DFX_ATTR_SHAPE, shape, 2), none);
    io->out[0] = ADD(io->out[0], MUL(level, e->weight(g, "gain", &two, NULL)));
    return DFX_OK;
}
static const dfx_model_api model_api = { sizeof(dfx_model_api), 0, model_info, model_build };

/* ---- guidance: what the denoiser says, times 0.999; most ops by their codes, at a weight that leaves it in place */
static const dfx_op unary[] = { DFX_OP_NEG, DFX_OP_ABS, DFX_OP_SIGN, DFX_OP_RECIP, DFX_OP_SQUARE, DFX_OP_SQRT, DFX_OP_RSQRT,
    DFX_OP_EXP, DFX_OP_EXPM1, DFX_OP_LOG, DFX_OP_LOG1P, DFX_OP_SIN, DFX_OP_COS, DFX_OP_TANH, DFX_OP_SIGMOID, DFX_OP_SILU,
    DFX_OP_GELU, DFX_OP_GELU_TANH, DFX_OP_RELU, DFX_OP_SOFTPLUS, DFX_OP_ERF, DFX_OP_FLOOR, DFX_OP_CEIL, DFX_OP_ROUND,
    DFX_OP_STOP_GRADIENT, DFX_OP_LGAMMA, DFX_OP_LOG_NDTR };
static const dfx_op binary[] = { DFX_OP_ADD, DFX_OP_SUB, DFX_OP_MUL, DFX_OP_DIV, DFX_OP_POW, DFX_OP_MIN, DFX_OP_MAX, DFX_OP_REM };
static const dfx_op compared[] = { DFX_OP_EQ, DFX_OP_NE, DFX_OP_LT, DFX_OP_LE, DFX_OP_GT, DFX_OP_GE };
static const dfx_op reduced[] = { DFX_OP_SUM, DFX_OP_MEAN, DFX_OP_REDUCE_MAX, DFX_OP_REDUCE_MIN, DFX_OP_PROD, DFX_OP_LOGSUMEXP };
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static dfx_node census(const dfx_graph_api *e, dfx_graph *g, dfx_node of)
{
    const int64_t last[1] = { -1 };
    const dfx_attr axis = whole(DFX_ATTR_AXIS, -1), axes = dfx_attr_ints(DFX_ATTR_AXES, last, 1);
    const dfx_attr keep = whole(DFX_ATTR_KEEPDIMS, 1), down = whole(DFX_ATTR_DESCENDING, 1);
    dfx_node x = ADD(MUL(dfx_sigmoid(e, g, of), NUM(0.5)), NUM(0.25)), y = with(e, g, DFX_OP_FLIP, x, axes, none);
    dfx_node sum = NUM(0.0), in[2], bools;
    int64_t lo[DFX_MAX_RANK], hi[DFX_MAX_RANK], to[DFX_MAX_RANK];
    dfx_attr two[2];
    double weight = 1.0;
    dfx_desc d;
    size_t i;
#define TAKE(node) do { dfx_node n_ = (node); sum = ADD(sum, MUL(n_, NUM(weight))); weight *= 1.0625; } while (0)
    if (e->describe(g, x, &d) != DFX_OK || d.rank < 2) return 0;
    for (i = 0; i < COUNT(unary); i++) TAKE(dfx_emit1(e, g, unary[i], x));
    for (i = 0; i < COUNT(binary); i++) TAKE(dfx_emit2(e, g, binary[i], x, y));
    for (i = 0; i < COUNT(compared); i++) TAKE(op3(e, g, DFX_OP_WHERE, dfx_emit2(e, g, compared[i], x, y), x, y));
    for (i = 0; i < COUNT(reduced); i++) TAKE(with(e, g, reduced[i], x, axes, keep));
    bools = dfx_emit1(e, g, DFX_OP_NOT, dfx_emit1(e, g, DFX_OP_IS_FINITE, dfx_emit1(e, g, DFX_OP_LOG, SUB(x, NUM(0.5)))));
    TAKE(with(e, g, DFX_OP_CAST, bools, whole(DFX_ATTR_DTYPE, (int64_t)e->float_type(g)), none));
    bools = dfx_emit2(e, g, DFX_OP_AND, bools, dfx_emit2(e, g, DFX_OP_LT, x, y));
    TAKE(op3(e, g, DFX_OP_WHERE, dfx_emit2(e, g, DFX_OP_OR, bools, dfx_emit2(e, g, DFX_OP_GT, y, NUM(0.6))), x, y));
    TAKE(with(e, g, DFX_OP_POLYGAMMA, x, whole(DFX_ATTR_ORDER, 1), none));
    TAKE(with(e, g, DFX_OP_BESSEL_RATIO, x, dfx_attr_float(DFX_ATTR_NU, 1.5), none));
    TAKE(with(e, g, DFX_OP_LOG_IVE, x, dfx_attr_float(DFX_ATTR_NU, 1.5), none));
    for (i = 0; i < 2; i++) {
        const dfx_op index[2] = { DFX_OP_ARGMAX, DFX_OP_ARGMIN };
        TAKE(with(e, g, DFX_OP_CAST, with(e, g, index[i], x, axis, keep), whole(DFX_ATTR_DTYPE, (int64_t)e->float_type(g)), none));
    }
    TAKE(with(e, g, DFX_OP_CUMSUM, x, axis, whole(DFX_ATTR_REVERSE, 1)));
    TAKE(with(e, g, DFX_OP_CUMSUM, x, axis, whole(DFX_ATTR_EXCLUSIVE, 1)));
    TAKE(with(e, g, DFX_OP_SOFTMAX, x, axis, none));
    TAKE(with(e, g, DFX_OP_LOG_SOFTMAX, x, axis, none));
    TAKE(with(e, g, DFX_OP_LAYER_NORM, x, dfx_attr_float(DFX_ATTR_EPS, 0.01), none));
    TAKE(with(e, g, DFX_OP_RMS_NORM, x, dfx_attr_float(DFX_ATTR_EPS, 0.01), none));
    TAKE(with(e, g, DFX_OP_SORT, x, axis, down));
    in[0] = y;
    in[1] = with(e, g, DFX_OP_ARGSORT, x, axis, down);
    TAKE(dfx_emit(e, g, DFX_OP_TAKE_ALONG, in, 2, &axis, 1));
    for (i = 0; i < d.rank; i++) lo[i] = hi[i] = 0, to[i] = d.dims[i];
    hi[d.rank - 1] = 1, to[d.rank - 1] = -1;
    two[0] = dfx_attr_ints(DFX_ATTR_START, lo, d.rank);
    two[1] = dfx_attr_ints(DFX_ATTR_STOP, to, d.rank);
    in[0] = dfx_emit(e, g, DFX_OP_SLICE, &x, 1, two, 2);
    two[0] = dfx_attr_ints(DFX_ATTR_LO, lo, d.rank);
    two[1] = dfx_attr_ints(DFX_ATTR_HI, hi, d.rank);
    TAKE(dfx_emit(e, g, DFX_OP_PAD, in, 1, two, 2));
    in[0] = with(e, g, DFX_OP_RESHAPE, x, dfx_attr_ints(DFX_ATTR_SHAPE, d.dims, d.rank), none);
    in[1] = y;
    in[0] = dfx_emit(e, g, DFX_OP_CONCAT, in, 2, &axis, 1);
    for (i = 0; i < d.rank; i++) lo[i] = 0, to[i] = d.dims[i], hi[i] = i + 1 == d.rank ? 2 : 1;
    to[d.rank - 1] *= 2;
    {
        dfx_attr strided[3];
        strided[0] = dfx_attr_ints(DFX_ATTR_START, lo, d.rank);
        strided[1] = dfx_attr_ints(DFX_ATTR_STOP, to, d.rank);
        strided[2] = dfx_attr_ints(DFX_ATTR_STEP, hi, d.rank);
        TAKE(dfx_emit(e, g, DFX_OP_SLICE, in, 1, strided, 3));
    }
    two[0] = dfx_attr_float(DFX_ATTR_VALUE, 0.75);
    two[1] = dfx_attr_ints(DFX_ATTR_SHAPE, d.dims, d.rank);
    TAKE(dfx_emit(e, g, DFX_OP_FULL, NULL, 0, two, 2));
    TAKE(with(e, g, DFX_OP_BROADCAST_TO, NUM(0.125), two[1], none));
    {
        dfx_attr counted[3];
        counted[0] = two[1];
        counted[1] = axis;
        counted[2] = whole(DFX_ATTR_DTYPE, (int64_t)e->float_type(g));
        TAKE(dfx_emit(e, g, DFX_OP_IOTA, NULL, 0, counted, 3));
        counted[1] = whole(DFX_ATTR_PURPOSE, DFX_PURPOSE_GUIDANCE);
        TAKE(dfx_emit(e, g, DFX_OP_UNIFORM, NULL, 0, counted, 3));
        TAKE(with(e, g, DFX_OP_GAMMA, x, counted[1], none));
        TAKE(with(e, g, DFX_OP_POISSON, x, counted[1], none));
    }
    return sum;
}

TELL(guidance_info, dfx_guidance_info)
{
    UNUSED;
    out->stage = DFX_STAGE_RESCALE;
    out->group = 1;
    out->exact_for = -1.0;
    return DFX_OK;
}
BUILD(wrap, dfx_wrap_io)
{
    const dfx_graph_api *e = E(self_);
    dfx_status status = HOST(self_)->build->denoise(g, io->inner, io->evals, io->n_evals, io->out);
    uint32_t i;
    if (status != DFX_OK) return dfx_fail(err, status, "the denoiser said nothing");
    for (i = 0; i < io->n_evals * io->n_components; i++) {
        dfx_node x = io->out[i];
        io->out[i] = MUL(x, NUM(io->variant == 1 ? 0.999 : 1.0));
        if (io->variant == 1) io->out[i] = ADD(io->out[i], MUL(census(e, g, x), NUM(1e-6)));
    }
    return DFX_OK;
}
BUILD(finish, dfx_guide_io)
{
    const dfx_graph_api *e = E(self_);
    dfx_node least = io->x[0];
    int64_t axis[1] = { -1 };
    dfx_desc d;
    uint32_t i;
    UNUSED;
    if (e->describe(g, least, &d) != DFX_OK) return DFX_E_INVALID;
    for (i = 1; i < d.rank; i++) least = with(e, g, DFX_OP_REDUCE_MIN, least, dfx_attr_ints(DFX_ATTR_AXES, axis, 1), none);
    *io->feasible = dfx_emit2(e, g, DFX_OP_GT, least, NUM(1.0));
    return DFX_OK;
}
static dfx_status DFX_CALL variant(const void *self_, const double *lowest, const double *highest, uint32_t n, uint32_t *out, dfx_error *err)
{
    UNUSED;
    *out = n == 1 && lowest[0] <= highest[0] ? 1 : 0;
    return DFX_OK;
}
static const dfx_guidance_api guidance_api = { sizeof(dfx_guidance_api), 0, guidance_info, wrap, NULL, NULL, NULL, finish, variant };

/* ---- sampler: Euler, which leans on the D before */
static const dfx_slot before = { { 0, 0, { 0 } }, 0.0, 1, 0, "before", NULL };
TELL(sampler_info, dfx_sampler_info)
{
    UNUSED;
    out->n_coeff = 3;
    out->n_variants = 1;
    out->n_slots = 1;
    out->slots = &before;
    return DFX_OK;
}
static dfx_status DFX_CALL plan(const void *self_, dfx_plan *p, dfx_error *err)
{
    uint32_t k;
    UNUSED;
    if (p->n_components != 1) return dfx_fail(err, DFX_E_UNSUPPORTED, "one component");
    p->n_rows = p->n_steps;
    for (k = 0; p->rows != NULL && k < p->n_steps; k++) {
        p->rows[3 * k] = p->knots[k];
        p->rows[3 * k + 1] = p->knots[k + 1] / p->knots[k];
        p->rows[3 * k + 2] = k == 0 ? 0.0 : 0.1;
    }
    return DFX_OK;
}
BUILD(step, dfx_step_io)
{
    const dfx_graph_api *e = E(self_);
    dfx_eval at = { sizeof(dfx_eval), 0, NULL, NULL, NULL, NULL };
    dfx_node found = 0, lean;
    dfx_status status;
    at.x = io->x;
    at.sigma = &io->coeff[0];
    status = HOST(self_)->build->denoise(g, 0, &at, 1, &found);
    if (status != DFX_OK) return dfx_fail(err, status, "the denoiser said nothing");
    lean = ADD(found, MUL(io->coeff[2], SUB(found, io->slot[0])));
    io->slot_out[0] = found;
    io->next[0] = ADD(lean, MUL(io->coeff[1], SUB(io->x[0], lean)));
    io->denoised[0] = found;
    return DFX_OK;
}
static const dfx_sampler_api sampler_api = { sizeof(dfx_sampler_api), 0, sampler_info, plan, step };

/* ---- grid: geometric */
static dfx_status DFX_CALL knots(const void *self_, uint32_t n, double lo, double hi, double *out, dfx_error *err)
{
    uint32_t i;
    UNUSED;
    if (n == 0 || !(lo > 0.0)) return dfx_fail(err, DFX_E_INVALID, "want steps and a least level");
    for (i = 0; i <= n; i++) out[i] = i == 0 ? hi : i == n ? lo : hi * pow(lo / hi, (double)i / n);
    return DFX_OK;
}
static const dfx_grid_api grid_api = { sizeof(dfx_grid_api), 0, 0, 0, knots, NULL };

/* ---- objectives: denoising on data, and the same on samples by their rewards, with a sweep */
static const char *const metrics[] = { "error" };
TELL(objective_info, dfx_objective_info)
{
    UNUSED;
    out->n_metrics = 1;
    out->metrics = metrics;
    return DFX_OK;
}
static dfx_status error_of(const void *self_, dfx_graph *g, dfx_node x0, dfx_node *out)
{
    const dfx_graph_api *e = E(self_);
    const dfx_build_api *b = HOST(self_)->build;
    dfx_eval at = { sizeof(dfx_eval), 0, NULL, NULL, NULL, NULL };
    int64_t shape[2];
    dfx_attr attr[2];
    dfx_node level, in[2], noisy[2], found = 0;
    dfx_status s;
    shape[0] = e->batch(g);
    shape[1] = 1;
    attr[0] = dfx_attr_ints(DFX_ATTR_SHAPE, shape, 2);
    attr[1] = whole(DFX_ATTR_PURPOSE, DFX_PURPOSE_LEVEL);
    level = dfx_exp(e, g, dfx_emit(e, g, DFX_OP_NORMAL, NULL, 0, attr, 2));
    if ((s = b->process(g, 0, DFX_PROCESS_ENCODE, DFX_PURPOSE_DATA, &x0, 1, &in[0], 1)) != DFX_OK) return s;
    in[1] = level;
    if ((s = b->process(g, 0, DFX_PROCESS_PERTURB, DFX_PURPOSE_DATA, in, 2, noisy, 2)) != DFX_OK) return s;
    at.x = &noisy[0];
    at.sigma = &level;
    if ((s = b->denoise(g, b->denoiser_of(g, "base"), &at, 1, &found)) != DFX_OK) return s;
    *out = dfx_square(e, g, SUB(found, dfx_emit1(e, g, DFX_OP_STOP_GRADIENT, noisy[1])));
    return DFX_OK;
}
BUILD(loss, dfx_loss_io)
{
    dfx_node error = 0;
    dfx_status s = error_of(self_, g, io->x0[0], &error);
    UNUSED;
    io->loss = io->metrics[0] = dfx_emit1(E(self_), g, DFX_OP_MEAN, error);
    return s;
}
static const dfx_objective_api objective_api = { sizeof(dfx_objective_api), 0, objective_info, loss, NULL, NULL };

TELL(rewarded_info, dfx_objective_info)
{
    UNUSED;
    out->records = DFX_RECORD_STATES | DFX_RECORD_SIGMAS | DFX_RECORD_CARRY | DFX_RECORD_REWARD;
    out->sweep_backwards = 1;
    out->n_rewards = 1;
    out->n_metrics = 1;
    out->metrics = metrics;
    return DFX_OK;
}
BUILD(sweep, dfx_sweep_io)
{
    const dfx_graph_api *e = E(self_);
    UNUSED;
    io->carry_out[0] = ADD(MUL(io->carry[0], NUM(0.5)), SUB(io->x_next[0], io->x[0]));
    return DFX_OK;
}
BUILD(advantage, dfx_advantage_io)
{
    const dfx_graph_api *e = E(self_);
    int64_t axis[1] = { -1 };
    dfx_attr last = dfx_attr_ints(DFX_ATTR_AXES, axis, 1);
    UNUSED;
    io->advantage = MUL(with(e, g, DFX_OP_SUM, io->reward, last, none), io->valid);
    return DFX_OK;
}
BUILD(rewarded_loss, dfx_loss_io)
{
    const dfx_graph_api *e = E(self_);
    int64_t axis[1] = { -1 };
    dfx_node error = 0, carried = dfx_emit1(e, g, DFX_OP_MEAN, dfx_square(e, g, io->carry[0]));
    dfx_status s = error_of(self_, g, io->x0[0], &error);
    UNUSED;
    error = with(e, g, DFX_OP_MEAN, error, dfx_attr_ints(DFX_ATTR_AXES, axis, 1), none);
    io->loss = dfx_emit1(e, g, DFX_OP_MEAN, MUL(error, io->advantage));
    io->metrics[0] = ADD(dfx_emit1(e, g, DFX_OP_MEAN, error), carried);
    return s;
}
static const dfx_objective_api rewarded_api = { sizeof(dfx_objective_api), 0, rewarded_info, rewarded_loss, sweep, advantage };

#define FACTORY(name, kind, id) \
    static const dfx_factory name##_ = { sizeof(dfx_factory), kind, &name##_api, id, "frozen", NULL, create, destroy }
FACTORY(model, DFX_KIND_MODEL, "org.frozen.layer");
FACTORY(process, DFX_KIND_PROCESS, "org.frozen.gauss");
FACTORY(guidance, DFX_KIND_GUIDANCE, "org.frozen.shrink");
FACTORY(sampler, DFX_KIND_SAMPLER, "org.frozen.euler");
FACTORY(grid, DFX_KIND_GRID, "org.frozen.geometric");
FACTORY(objective, DFX_KIND_OBJECTIVE, "org.frozen.denoise");
FACTORY(rewarded, DFX_KIND_OBJECTIVE, "org.frozen.rewarded");
static const dfx_factory *const factories[] = { &model_, &process_, &guidance_, &sampler_, &grid_, &objective_, &rewarded_ };
DFX_PLUGIN(frozen) = { DFX_PLUGIN_HEADER, 7, factories, "org.frozen", "0.2.0", "MIT" };
