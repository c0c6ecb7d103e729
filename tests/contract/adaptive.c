/* Case 4. An adaptive SDE step with rejection.
 *
 * Every sample carries its own place and step in slots and says at each turn whether it goes on,
 * stays, or has arrived. Euler-Maruyama and stochastic Heun share one Brownian increment; their
 * distance decides. The path is a BROWNIAN node over the variance, so a rejected increment is
 * bisected, not redrawn: redrawing favours small increments and loses a third of the variance.
 *
 * Steps are nested: halved when rejected, doubled only where the longer one starts on its own
 * lattice. So no step jumps over a place where a rejected one has already looked at the path: what
 * was seen there decided the step, and the increment across it has no longer the law of one
 * (skip = 1 does that, and gains 2 % of variance). */
#include "contract.h"

static const dfx_component state = {{0, 1, {1}}, DFX_SPACE_CONTINUOUS, 0, "x", NULL};

/* ---- model: D of .3 N(-2, .4^2) + .5 N(.5, .25^2) + .2 N(3, .6^2) */

TELL(net_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_DENOISED;
    out->n_components = 1;
    out->components = &state;
    return DFX_OK;
}

BUILD(net_build, dfx_model_io)
{
    static const float share[3] = {.3f, .5f, .2f}, mean[3] = {-2.f, .5f, 3.f};
    static const float var[3] = {.16f, .0625f, .36f};
    PEN;
    const dfx_desc three = sized(DFX_F32, 1, 3, 0);
    dfx_node w = k.api->constant(g, &three, share), m = k.api->constant(g, &three, mean);
    dfx_node s2 = k.api->constant(g, &three, var);
    dfx_node x = io->x[0], u = variance(k, io->sigma[0], x), sum, away, log_weight;
    const dfx_dtype t = k.api->float_type(g);
    w = CAST(w, t), m = CAST(m, t), s2 = CAST(s2, t);
    sum = ADD(s2, u);
    away = SUB(x, m);
    log_weight = SUB(LOG(w), MUL(NUM(.5), ADD(LOG(sum), DIV(SQUARE(away), sum))));
    away = ADD(m, MUL(DIV(s2, sum), away));
    io->out[0] = fold(k, DFX_OP_SUM, MUL(SOFTMAX(log_weight), away), 1, 1);
    return DFX_OK;
}

/* ---- sampler */

enum { TOLERANCE, REDRAW, ROWS, SKIP };

static const dfx_slot slots[] = {
    {{0, 1, {1}}, 1., 0, 0, "place", NULL},              /* from 1 at the noisy end to 0 */
    {{0, 1, {1}}, .03125, 0, 0, "step", NULL},
};

TELL(adaptive_info, dfx_sampler_info, out)
{
    UNUSED;
    out->n_coeff = 2;                    /* variance at the noisy end and at the last knot */
    out->n_variants = 1;
    out->n_slots = 2;
    out->slots = slots;
    out->flags = DFX_SAMPLER_CONTROL;
    out->stochasticity = 1.;
    return DFX_OK;
}

/* A row per accepted step; samples that have arrived are done before the rows are. */
TELL(adaptive_plan, dfx_plan, plan)
{
    const double hi = plan->knots[0], lo = plan->knots[plan->n_steps];
    uint32_t i;
    UNUSED;
    plan->n_rows = (uint32_t)P(ROWS);
    for (i = 0; plan->rows && i < plan->n_rows; i++) {
        plan->rows[2 * i] = hi * hi;
        plan->rows[2 * i + 1] = lo * lo;
        plan->variants[i] = 0;
        plan->levels[i] = lo;
    }
    return DFX_OK;
}

/* W(to) - W(from), places of a path of variance `all`. */
static dfx_node increment(pen k, int redraw, dfx_node like, dfx_node from, dfx_node to,
                          dfx_node all)
{
    dfx_desc d = desc(k, like);
    dfx_node in[2];
    dfx_attr at[5];
    if (redraw)
        return MUL(SQRT(MUL(all, SUB(to, from))), draw(k, DFX_OP_NORMAL, DFX_PURPOSE_STEP, like));
    in[0] = flat(k, from);
    in[1] = flat(k, to);
    at[0] = list(DFX_ATTR_SHAPE, d.rank, d.dims);
    at[1] = whole(DFX_ATTR_PURPOSE, DFX_PURPOSE_STEP);
    at[2] = real(DFX_ATTR_RANGE_LO, 0.);
    at[3] = real(DFX_ATTR_RANGE_HI, 1.);
    at[4] = whole(DFX_ATTR_DEPTH, 31);
    return MUL(SQRT(all), emit(k, DFX_OP_BROWNIAN, 2, in, 5, at));
}

static dfx_status drift(pen k, dfx_node x, dfx_node v, dfx_node *out)
{
    TRY(denoise(k, 0, x, SQRT(v), out));
    *out = DIV(SUB(*out, x), v);
    return DFX_OK;
}

BUILD(adaptive_step, dfx_step_io)
{
    PEN;
    dfx_node x = io->x[0], end = shaped(k, io->coeff[1], x);
    dfx_node all = SUB(shaped(k, io->coeff[0], x), end), place = io->slot[0];
    dfx_node step = MIN(io->slot[1], place), to = SUB(place, step), h = MUL(all, step);
    dfx_node v = ADD(end, MUL(all, place)), after = ADD(end, MUL(all, to));
    dfx_node dw = increment(k, P(REDRAW) != 0., x, to, place, all);
    dfx_node f, f_there, euler, heun, error, accept, factor, lattice, arrived, go_on;
    TRY(drift(k, x, v, &f));
    euler = ADD(x, ADD(MUL(h, f), dw));
    TRY(drift(k, euler, after, &f_there));
    heun = ADD(x, ADD(MUL(MUL(h, NUM(.5)), ADD(f, f_there)), dw));
    error = DIV(op1(k, DFX_OP_ABS, SUB(euler, heun)),
                MUL(NUM(P(TOLERANCE)), ADD(NUM(.2), SQRT(after))));
    accept = LE(error, NUM(1.));
    factor = DIV(NUM(.9), SQRT(MAX(error, NUM(1e-8))));
    if (P(SKIP) != 0.)
        factor = MIN(MAX(factor, NUM(.2)), WHERE(accept, NUM(4.), NUM(.7)));
    else {
        lattice = DIV(to, MUL(step, NUM(2.)));
        lattice = EQ(lattice, op1(k, DFX_OP_FLOOR, lattice));
        factor = WHERE(GE(factor, NUM(2.)), WHERE(lattice, NUM(2.), NUM(1.)), NUM(1.));
        factor = WHERE(accept, factor, NUM(.5));
    }
    io->next[0] = WHERE(accept, heun, x);
    io->slot_out[0] = place = WHERE(accept, to, place);
    io->slot_out[1] = MUL(step, factor);
    arrived = LE(place, NUM(0.));
    go_on = WHERE(accept, NUM(DFX_CONTROL_ADVANCE), NUM(DFX_CONTROL_STAY));
    io->control[0] = INTEGER(flat(k, WHERE(arrived, NUM(DFX_CONTROL_DONE), go_on)));
    return DFX_OK;
}

MODEL(net, "adaptive.net", (0), (0.));
SAMPLER(adaptive, "adaptive.sampler", ("tolerance", "redraw", "rows", "skip"), (.05, 0., 4096., 0.));
PLUGIN(adaptive, &net.base, &adaptive.base);
