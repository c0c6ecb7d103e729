/* The ground the other cases stand on: the variance-exploding process, a geometric grid, and the
 * ancestral sampler, which asks the process for its draw and so serves any process. */
#include "contract.h"

/* ---- process: w = x + sigma xi */

RANGE(ve_info)
{
    (void)stats;
    UNUSED;
    out->space = DFX_SPACE_CONTINUOUS;
    out->flags = DFX_PROCESS_IS_ADDITIVE;
    out->sigma_min = P(0);
    out->sigma_max = P(1);
    return DFX_OK;
}

BUILD(ve_same, dfx_process_io)
{
    (void)g;
    UNUSED;
    io->out[0] = io->in[0];
    return DFX_OK;
}

BUILD(ve_perturb, dfx_process_io)
{
    PEN;
    io->out[0] = ADD(io->in[0], MUL(io->in[1], draw(k, DFX_OP_NORMAL, io->purpose, io->in[0])));
    io->out[1] = io->in[0];
    return DFX_OK;
}

/* Exact where the data are normal. */
BUILD(ve_prior, dfx_process_io)
{
    PEN;
    dfx_node sd = SQRT(ADD(SQUARE(io->in[0]), NUM(io->stats->w_var)));
    dfx_node xi = draw(k, DFX_OP_NORMAL, io->purpose, blank(k, io->component));
    io->out[0] = ADD(NUM(io->stats->w_mean), MUL(sd, xi));
    return DFX_OK;
}

BUILD(ve_precond, dfx_process_io)
{
    PEN;
    dfx_node s = io->in[0], v = NUM(io->stats->w_var), sum = ADD(v, SQUARE(s));
    io->out[0] = DIV(v, sum);
    io->out[1] = MUL(s, SQRT(DIV(v, sum)));
    io->out[2] = DIV(NUM(1.), SQRT(sum));
    io->out[3] = MUL(LOG(s), NUM(.25));
    io->out[4] = DIV(sum, MUL(v, SQUARE(s)));
    return DFX_OK;
}

BUILD(ve_renoise, dfx_process_io)
{
    PEN;
    dfx_node added = SUB(SQUARE(io->in[2]), SQUARE(io->in[1]));
    io->out[0] = ADD(io->in[0], MUL(SQRT(added), draw(k, DFX_OP_NORMAL, io->purpose, io->in[0])));
    return DFX_OK;
}

BUILD(ve_ancestral, dfx_process_io)
{
    PEN;
    dfx_node xi = draw(k, DFX_OP_NORMAL, io->purpose, io->in[0]);
    io->out[0] = ADD(io->in[0], MUL(SQRT(io->in[1]), xi));
    return DFX_OK;
}

static const dfx_process_api ve_api = {
    sizeof(dfx_process_api), 0, ve_info, NULL, ve_same, ve_same, ve_perturb, ve_prior, ve_precond,
    ve_renoise, ve_ancestral, NULL, NULL, NULL, NULL, NULL, NULL,
};
KIT(ve, DFX_KIND_PROCESS, "ve", ("sigma_min", "sigma_max"), (.002, 80.));

/* ---- grid: geometric; with "zero" the last knot is 0 */

static dfx_status DFX_CALL geometric_knots(const void *self, uint32_t n, double lo, double hi,
                                           double *out, dfx_error *err)
{
    const int zero = P(0) != 0.;
    const double last = zero ? n - 1. : (double)n;
    uint32_t i;
    UNUSED;
    for (i = 0; i <= n; i++)
        out[i] = hi * pow(lo / hi, last > 0 ? i / last : 1.);
    if (zero)
        out[n] = 0.;
    return DFX_OK;
}
static const dfx_grid_api geometric_api = {sizeof(dfx_grid_api), 0, 0, 0, geometric_knots, NULL};
KIT(geometric, DFX_KIND_GRID, "geometric", ("zero"), (1.));

/* ---- sampler: mu = D + r (w - D), v = (s^2 - s'^2)(s'/s), one draw about mu; the last is D */

TELL(ancestral_info, dfx_sampler_info, out)
{
    UNUSED;
    out->n_coeff = 3;
    out->n_variants = 2;
    out->stochasticity = 1.;
    return DFX_OK;
}

TELL(ancestral_plan, dfx_plan, plan)
{
    uint32_t i;
    UNUSED;
    plan->n_rows = plan->n_steps;
    for (i = 0; plan->rows && i < plan->n_steps; i++) {
        const double s = plan->knots[i], u = plan->knots[i + 1];
        plan->rows[3 * i] = s;
        plan->rows[3 * i + 1] = u * u / (s * s);
        plan->rows[3 * i + 2] = (s * s - u * u) * (u / s);
        plan->variants[i] = u == 0.;
    }
    return DFX_OK;
}

BUILD(ancestral_step, dfx_step_io)
{
    PEN;
    dfx_node x = io->x[0], d, in[2];
    TRY(denoise(k, 0, x, io->coeff[0], &d));
    io->denoised[0] = io->next[0] = d;
    if (io->variant == 1)
        return DFX_OK;
    in[0] = ADD(d, MUL(io->coeff[1], SUB(x, d)));
    in[1] = shaped(k, io->coeff[2], x);
    return process(k, 0, DFX_PROCESS_ANCESTRAL, DFX_PURPOSE_STEP, 2, in, &io->next[0]);
}

SAMPLER(ancestral, "ancestral", (0), (0.));
PLUGIN(ve, &ve.base, &geometric.base, &ancestral.base);
