/* Case 6. MeanFlow training (a JVP inside a loss, its target stopped), and an adjoint sweep.
 *
 * The network is the average velocity of N(mean, exp(log_std)^2) in closed form with two numbers to
 * learn, so training has one right answer. The sweep carries the reward's gradient back over stored
 * Euler steps of dw/dsigma = (w - D) / sigma. */
#include "contract.h"

enum { MODE };                           /* of the objective                                     */
enum { RIGHT, NO_JVP, NO_STOP };         /* the wrong ones regress on v, and let gradient through */

static const dfx_component state = {{0, 1, {1}}, DFX_SPACE_CONTINUOUS, 0, "x", NULL};
static const dfx_cond from_time = {{0, 1, {1}}, 0., "r", NULL};

/* ---- model: u(z, r, t) = (z - flow of z from t to r) / (t - r); sigma is t, the condition r */

TELL(net_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_VALUE;
    out->n_components = 1;
    out->components = &state;
    out->n_conds = 1;
    out->conds = &from_time;
    return DFX_OK;
}

static dfx_node spread_at(pen k, dfx_node t, dfx_node log_std)
{
    dfx_node data = MUL(SUB(NUM(1.), t), EXP(log_std));
    return SQRT(ADD(SQUARE(data), SQUARE(t)));
}

BUILD(net_build, dfx_model_io)
{
    PEN;
    dfx_node mean = weight(k, "mean", 1, 1, 0), log_std = weight(k, "log_std", 1, 1, 0);
    dfx_node z = io->x[0], t = shaped(k, io->sigma[0], z), r = io->cond[0];
    dfx_node ratio = DIV(spread_at(k, r, log_std), spread_at(k, t, log_std));
    dfx_node centred = SUB(z, MUL(SUB(NUM(1.), t), mean));
    dfx_node moved = ADD(MUL(SUB(NUM(1.), r), mean), MUL(ratio, centred));
    io->out[0] = DIV(SUB(z, moved), SUB(t, r));
    return DFX_OK;
}

static dfx_status average(pen k, dfx_node z, dfx_node r, dfx_node t, dfx_node *u)
{
    dfx_model_io io;
    dfx_node level = flat(k, t);
    memset(&io, 0, sizeof io);
    io.struct_size = (uint32_t)sizeof io;
    io.n_components = io.n_conds = io.n_out = 1;
    io.x = &z;
    io.sigma = &level;
    io.cond = &r;
    io.out = u;
    return k.build->network(k.g, "base", &io);
}

/* ---- objective: |u - sg(v - (t - r) du/dt along (v, 0, 1))|^2 */

static const char *const meanflow_metrics[] = {"loss"};

TELL(meanflow_info, dfx_objective_info, out)
{
    UNUSED;
    out->n_metrics = 1;
    out->metrics = meanflow_metrics;
    return DFX_OK;
}

BUILD(meanflow_loss, dfx_loss_io)
{
    PEN;
    dfx_node x0 = io->x0[0], noise = draw(k, DFX_OP_NORMAL, DFX_PURPOSE_DATA, x0);
    dfx_node t = ADD(NUM(.1), MUL(NUM(.9), draw(k, DFX_OP_UNIFORM, DFX_PURPOSE_LEVEL, x0)));
    dfx_node r = MUL(SUB(t, NUM(.1)), draw(k, DFX_OP_UNIFORM, DFX_PURPOSE_LEVEL, x0));
    dfx_node z = ADD(MUL(SUB(NUM(1.), t), x0), MUL(t, noise)), v = SUB(noise, x0);
    dfx_node u, target = v, in[7];
    TRY(average(k, z, r, t, &u));
    if (P(MODE) != NO_JVP) {
        in[0] = u, in[1] = z, in[2] = t, in[3] = r;      /* r is named: it was drawn from t */
        in[4] = v, in[6] = MUL(t, NUM(0.)), in[5] = ADD(in[6], NUM(1.));
        target = SUB(v, MUL(SUB(t, r), emit(k, DFX_OP_JVP, 7, in, 0, NULL)));
    }
    if (P(MODE) != NO_STOP)
        target = STOP(target);
    io->loss = io->metrics[0] = ALL(DFX_OP_MEAN, SQUARE(SUB(u, target)));
    return DFX_OK;
}

/* ---- objective with a sweep: carry_k = (d x_{k+1} / d x_k)^T carry_{k+1}, from the reward's */

static const char *const adjoint_metrics[] = {"adjoint"};

TELL(adjoint_info, dfx_objective_info, out)
{
    UNUSED;
    out->records = DFX_RECORD_STATES | DFX_RECORD_SIGMAS;
    out->records |= DFX_RECORD_CARRY | DFX_RECORD_REWARD_GRAD;
    out->sweep_backwards = 1;
    out->n_metrics = 1;
    out->metrics = adjoint_metrics;
    return DFX_OK;
}

BUILD(adjoint_sweep, dfx_sweep_io)
{
    PEN;
    dfx_node x = io->x[0], d, moved;
    dfx_node s = io->sigma[0], u = io->sigma_next[0];
    TRY(denoise(k, 0, x, s, &d));
    moved = ADD(x, MUL(DIV(SUB(u, s), s), SUB(x, d)));
    io->carry_out[0] = grad(k, moved, io->carry[0], x);
    return DFX_OK;
}

/* The adjoint at the first record is the gradient of the reward by the initial noise. */
BUILD(adjoint_loss, dfx_loss_io)
{
    PEN;
    dfx_desc d = desc(k, io->carry[0]);
    int64_t from[DFX_MAX_RANK] = {0};
    dfx_attr at[2];
    dfx_node first;
    d.dims[0] = 1;
    at[0] = list(DFX_ATTR_START, d.rank, from);
    at[1] = list(DFX_ATTR_STOP, d.rank, d.dims);
    first = emit(k, DFX_OP_SLICE, 1, &io->carry[0], 2, at);
    io->loss = io->metrics[0] = ALL(DFX_OP_MEAN, first);
    return DFX_OK;
}

/* ---- model for the sweep: D of N(mean, exp(log_std)^2), linear in w */

TELL(linear_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_DENOISED;
    out->n_components = 1;
    out->components = &state;
    return DFX_OK;
}

BUILD(linear_build, dfx_model_io)
{
    PEN;
    dfx_node mean = weight(k, "mean", 1, 1, 0), log_std = weight(k, "log_std", 1, 1, 0);
    dfx_node v = EXP(MUL(NUM(2.), log_std)), u = variance(k, io->sigma[0], io->x[0]);
    io->out[0] = DIV(ADD(MUL(v, io->x[0]), MUL(u, mean)), ADD(v, u));
    return DFX_OK;
}

MODEL(net, "meanflow.average", (0), (0.));
MODEL(linear, "meanflow.linear", (0), (0.));
OBJECTIVE(meanflow, NULL, "meanflow.objective", ("mode"), (0.));
OBJECTIVE(adjoint, adjoint_sweep, "meanflow.adjoint", (0), (0.));
PLUGIN(meanflow, &net.base, &linear.base, &meanflow.base, &adjoint.base);
