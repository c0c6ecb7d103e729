/* Case 5. Particles: a twisted target by resampling within groups.
 *
 * The chain is linear and normal, the twist psi = exp(a D) an approximation until the last level,
 * where D = x. Whatever the group size, weighted by its estimate of the normaliser a group is an
 * unbiased draw of N(m + a v, v), with mean weight exp(a m + a^2 v / 2). */
#include "contract.h"

enum { TILT, UNWEIGHTED };               /* UNWEIGHTED: forgets the estimate when it resamples */
enum { GROUP = 8 };

static const dfx_component state = {{0, 1, {1}}, DFX_SPACE_CONTINUOUS, 0, "x", NULL};
static const dfx_slot slots[] = {
    {{0, 0, {0}}, 0., 0, 0, "log_psi", NULL},            /* twist of the particle where it stands */
    {{0, 0, {0}}, 0., 0, 0, "log_weight", NULL},         /* what the core's running weight is     */
};

/* ---- model: D of N(0, 1) */

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
    PEN;
    io->out[0] = DIV(io->x[0], ADD(NUM(1.), variance(k, io->sigma[0], io->x[0])));
    return DFX_OK;
}

/* ---- guidance */

TELL(twist_info, dfx_guidance_info, out)
{
    UNUSED;
    out->stage = DFX_STAGE_PARTICLE;
    out->group = GROUP;
    out->exact_for = 1.;
    out->n_slots = 2;
    out->slots = slots;
    return DFX_OK;
}

static dfx_status log_twist(pen k, double tilt, const dfx_guide_io *io, dfx_node *out)
{
    dfx_node d;
    TRY(denoise(k, io->inner, io->x[0], io->sigma[0], &d));
    *out = flat(k, MUL(NUM(tilt), d));
    return DFX_OK;
}

BUILD(twist_start, dfx_guide_io)
{
    PEN;
    TRY(log_twist(k, P(TILT), io, &io->slot_out[0]));
    *io->log_weight = io->slot_out[1] = io->slot_out[0];
    return DFX_OK;
}

/* Systematic resampling: parent i is the first whose cumulative weight reaches (i + U) / K. */
BUILD(twist_permute, dfx_guide_io)
{
    PEN;
    const int64_t groups = k.api->batch(g) / GROUP, square[2] = {groups, GROUP};
    const int64_t cube[3] = {groups, 1, GROUP}, column[3] = {groups, GROUP, 1};
    const int64_t from[2] = {0, 0}, to[2] = {groups, 1};
    dfx_node psi, weight_, share, sum, u, point, below, parent, mean, total;
    dfx_attr at[2];
    TRY(log_twist(k, P(TILT), io, &psi));
    weight_ = reshape(k, ADD(io->slot[1], SUB(psi, io->slot[0])), 2, square);
    share = SOFTMAX(weight_);
    sum = with(k, DFX_OP_CUMSUM, share, whole(DFX_ATTR_AXIS, 1));

    at[0] = list(DFX_ATTR_START, 2, from);
    at[1] = list(DFX_ATTR_STOP, 2, to);
    u = reshape(k, draw(k, DFX_OP_UNIFORM, DFX_PURPOSE_GUIDANCE, psi), 2, square);
    u = emit(k, DFX_OP_SLICE, 1, &u, 2, at);             /* the first particle's is the group's */
    point = DIV(ADD(FLOAT(count(k, 1, DFX_I32, 2, square)), u), NUM(GROUP));
    below = LT(reshape(k, sum, 3, cube), reshape(k, point, 3, column));
    parent = MIN(fold(k, DFX_OP_SUM, INTEGER(below), 2, 0), NUM(GROUP - 1));

    /* All that is left of the weights is their mean. */
    mean = SUB(fold(k, DFX_OP_LOGSUMEXP, weight_, 1, 1), NUM(log(GROUP)));
    if (P(UNWEIGHTED) != 0.)
        mean = MUL(mean, NUM(0.));
    total = flat(k, ADD(mean, MUL(share, NUM(0.))));
    *io->index = flat(k, parent);
    io->slot_out[0] = psi;
    io->slot_out[1] = total;
    {
        dfx_node of_parent[2];
        dfx_attr axis = whole(DFX_ATTR_AXIS, 1);
        of_parent[0] = reshape(k, io->slot[1], 2, square);
        of_parent[1] = parent;
        *io->log_weight = SUB(total, flat(k, emit(k, DFX_OP_TAKE_ALONG, 2, of_parent, 1, &axis)));
    }
    return DFX_OK;
}

MODEL(net, "smc.net", (0), (0.));
GUIDANCE(twist, (NULL, twist_start, NULL, twist_permute, NULL), "smc.twist",
         ("tilt", "unweighted"), (1., 0.));
PLUGIN(smc, &net.base, &twist.base);
