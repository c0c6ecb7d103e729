/* Case 1. Heun + classifier-free guidance + Doob's h-transform with a network of its own.
 *
 * Two normal laws of one variance, so that guidance of scale s samples exactly
 * N(s m1 + (1-s) m0, v); on top of it the event {x >= b}, whose log h is a log normal CDF. The
 * networks of the slots "base" and "h" both name their weight "mean": different parameter sets. */
#include "contract.h"

static const dfx_component state = {{0, 1, {1}}, DFX_SPACE_CONTINUOUS, 0, "x", NULL};
static const dfx_cond class_cond = {{0, 1, {1}}, 0., "class", NULL};

/* ---- model: D of N(mean[0] (null) or mean[1], v); p = {v} */

TELL(net_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_DENOISED;
    out->n_components = 1;
    out->components = &state;
    out->n_conds = 1;
    out->conds = &class_cond;
    return DFX_OK;
}

static dfx_node estimate(pen k, dfx_node x, dfx_node u, double v, dfx_node mean)
{
    return DIV(ADD(MUL(NUM(v), x), MUL(u, mean)), ADD(NUM(v), u));
}

BUILD(net_build, dfx_model_io)
{
    PEN;
    const double v = P(0);
    const int64_t pair[2] = {1, 2};
    dfx_node means = reshape(k, weight(k, "mean", 1, 2, 0), 2, pair);
    dfx_node c = io->cond[0];            /* 0 or 1 */
    dfx_node of_class = fold(k, DFX_OP_SUM, MUL(join(k, SUB(NUM(1.), c), c, 1), means), 1, 1);
    io->out[0] = estimate(k, io->x[0], variance(k, io->sigma[0], io->x[0]), v, of_class);
    return DFX_OK;
}

/* ---- model "h": log P(x0 >= b | x); p = {v, b} */

TELL(h_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_VALUE;
    out->n_components = 1;
    out->components = &state;
    return DFX_OK;
}

BUILD(h_build, dfx_model_io)
{
    PEN;
    const double v = P(0), b = P(1);
    dfx_node u = variance(k, io->sigma[0], io->x[0]);
    dfx_node d = estimate(k, io->x[0], u, v, weight(k, "mean", 1, 1, 0));
    dfx_node left = DIV(MUL(NUM(v), u), ADD(NUM(v), u));
    io->out[0] = flat(k, op1(k, DFX_OP_LOG_NDTR, DIV(SUB(d, NUM(b)), SQRT(left))));
    return DFX_OK;
}

/* ---- guidance: D_null + scale (D_class - D_null), both in one evaluation */

TELL(cfg_info, dfx_guidance_info, out)
{
    UNUSED;
    out->stage = DFX_STAGE_CONDITION;
    out->group = 1;
    out->exact_for = -1.;
    return DFX_OK;
}

BUILD(cfg_wrap, dfx_wrap_io)
{
    PEN;
    const int32_t at = k.build->cond_index(g, "class");
    dfx_node value, null_value, d[2];
    uint32_t i;
    if (at != 0)
        return dfx_fail(err, DFX_E_NOT_FOUND, "cfg: the model has no condition class");
    TRY(k.build->cond(g, 0, &value, &null_value));
    for (i = 0; i < io->n_evals; i++) {
        dfx_eval both[2];
        both[0] = both[1] = io->evals[i];
        both[1].cond = &null_value;
        TRY(k.build->denoise(g, io->inner, both, 2, d));
        io->out[i] = ADD(d[1], MUL(NUM(P(0)), SUB(d[0], d[1])));
    }
    return DFX_OK;
}

/* ---- guidance: D + strength sigma^2 grad log h, and the tilt of the starting law */

static const char *const doob_networks[] = {"h"};

TELL(doob_info, dfx_guidance_info, out)
{
    UNUSED;
    out->stage = DFX_STAGE_SCORE;
    out->group = 1;
    out->exact_for = -1.;
    out->n_networks = 1;
    out->networks = doob_networks;
    return DFX_OK;
}

static dfx_status log_h(pen k, dfx_node x, dfx_node sigma, dfx_node *out)
{
    dfx_model_io io;
    dfx_node embedding = embed(k, sigma, x);
    memset(&io, 0, sizeof io);
    io.struct_size = (uint32_t)sizeof io;
    io.n_components = io.n_out = 1;
    io.x = &x;
    io.sigma = &embedding;
    io.out = out;
    return k.build->network(k.g, "h", &io);
}

BUILD(doob_wrap, dfx_wrap_io)
{
    PEN;
    uint32_t i;
    TRY(k.build->denoise(g, io->inner, io->evals, io->n_evals, io->out));
    for (i = 0; i < io->n_evals; i++) {
        dfx_node x = io->evals[i].x[0], s = io->evals[i].sigma[0], l, slope;
        dfx_desc d;
        TRY(log_h(k, x, s, &l));
        d = desc(k, l);
        slope = grad(k, l, filled(k, P(0), d.dtype, d.rank, d.dims), x);
        io->out[i] = ADD(io->out[i], MUL(SQUARE(shaped(k, s, x)), slope));
    }
    return DFX_OK;
}

BUILD(doob_start, dfx_guide_io)
{
    PEN;
    return log_h(k, io->x[0], io->sigma[0], io->log_weight);
}

/* ---- sampler: Heun, the last step Euler */

TELL(heun_info, dfx_sampler_info, out)
{
    UNUSED;
    out->n_coeff = 2;
    out->n_variants = 2;
    return DFX_OK;
}

TELL(heun_plan, dfx_plan, plan)
{
    uint32_t i;
    UNUSED;
    plan->n_rows = plan->n_steps;
    for (i = 0; plan->rows && i < plan->n_steps; i++) {
        plan->rows[2 * i] = plan->knots[i];
        plan->rows[2 * i + 1] = plan->knots[i + 1];
        plan->variants[i] = plan->knots[i + 1] == 0.;
    }
    return DFX_OK;
}

BUILD(heun_step, dfx_step_io)
{
    PEN;
    dfx_node x = io->x[0], s = io->coeff[0], u = io->coeff[1], d, slope, there, slope_there;
    TRY(denoise(k, 0, x, s, &d));
    io->denoised[0] = io->next[0] = d;
    if (io->variant == 1)
        return DFX_OK;
    slope = DIV(SUB(x, d), s);
    there = ADD(x, MUL(SUB(u, s), slope));
    TRY(denoise(k, 0, there, u, &d));
    slope_there = DIV(SUB(there, d), u);
    io->next[0] = ADD(x, MUL(MUL(SUB(u, s), NUM(.5)), ADD(slope, slope_there)));
    return DFX_OK;
}

MODEL(net, "doob.net", ("v"), (1.));
MODEL(h, "doob.h", ("v", "b"), (1., 0.));
GUIDANCE(cfg, (cfg_wrap, NULL, NULL, NULL, NULL), "doob.cfg", ("scale"), (1.));
GUIDANCE(doob, (doob_wrap, doob_start, NULL, NULL, NULL), "doob.h_transform", ("strength"), (1.));
SAMPLER(heun, "doob.heun", (0), (0.));
PLUGIN(doob, &net.base, &h.base, &cfg.base, &doob.base, &heun.base);
