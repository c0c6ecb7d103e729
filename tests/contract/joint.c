/* Case 8. Image and tokens in one state, each with its process and its own level, sampled together.
 *
 * A class c of probability .3 / .7 is the token, x | c ~ N(-1 or 1.5, .4^2) the image. Given the
 * image as it stands, and the token if it is not masked, everything is in closed form. */
#include "contract.h"

enum { BLIND };                          /* of the model: the image does not look at the token */
enum { MASK = 2, CLASSES = 3 };

static const dfx_component state[] = {
    {{0, 1, {1}}, DFX_SPACE_CONTINUOUS, 0, "image", NULL},
    {{DFX_I32, 1, {1}}, DFX_SPACE_DISCRETE, CLASSES, "token", NULL},
};

/* ---- model */

TELL(net_info, dfx_model_info, out)
{
    UNUSED;
    out->predicts = DFX_PREDICTS_DENOISED;
    out->n_components = 2;
    out->components = state;
    return DFX_OK;
}

BUILD(net_build, dfx_model_io)
{
    PEN;
    const int64_t rows = desc(k, io->x[0]).dims[0], pair[2] = {rows, 2};
    const int64_t column[2] = {rows, 1}, out[3] = {rows, 1, CLASSES};
    const double s2 = .16;
    dfx_node x = io->x[0], z = io->x[1], u = variance(k, io->sigma[0], x);
    dfx_node c = count(k, 1, DFX_I32, 2, pair), is_one = EQ(c, NUM(1.));
    dfx_node mean = WHERE(is_one, NUM(1.5), NUM(-1.));
    dfx_node prior = WHERE(is_one, NUM(log(.7)), NUM(log(.3)));
    dfx_node away = SUB(x, mean), sum = ADD(NUM(s2), u);
    dfx_node log_p = SUB(prior, DIV(SQUARE(away), MUL(NUM(2.), sum))), seen = SOFTMAX(log_p);
    dfx_node none = filled(k, -INFINITY, k.api->float_type(g), 2, column);
    if (P(BLIND) == 0.)
        seen = WHERE(EQ(z, NUM(MASK)), seen, FLOAT(EQ(z, c)));
    io->out[0] = fold(k, DFX_OP_SUM, MUL(seen, ADD(mean, MUL(DIV(NUM(s2), sum), away))), 1, 1);
    io->out[1] = reshape(k, join(k, log_p, none, 1), 3, out);
    return DFX_OK;
}

/* ---- process of the token: absorbing, alpha = 1 - t */

RANGE(mask_info)
{
    UNUSED;
    (void)stats;
    out->space = DFX_SPACE_DISCRETE;
    out->sigma_min = .01;
    out->sigma_max = 1.;
    return DFX_OK;
}

BUILD(mask_perturb, dfx_process_io)
{
    PEN;
    dfx_node x0 = io->in[0], gone = LT(draw(k, DFX_OP_UNIFORM, io->purpose, x0), io->in[1]);
    io->out[0] = WHERE(gone, NUM(MASK), x0);
    io->out[1] = FLOAT(gone);
    return DFX_OK;
}

BUILD(mask_prior, dfx_process_io)
{
    PEN;
    dfx_desc d = desc(k, blank(k, io->component));
    io->out[0] = filled(k, MASK, DFX_I32, d.rank, d.dims);
    return DFX_OK;
}

BUILD(mask_loss_weight, dfx_process_io)
{
    PEN;
    io->out[0] = DIV(NUM(1.), io->in[0]);
    return DFX_OK;
}

/* A masked token is revealed with probability (t - s) / t; a revealed one stays. */
BUILD(mask_posterior, dfx_process_io)
{
    PEN;
    dfx_desc d = desc(k, io->in[1]);
    dfx_node z, stay, c, is_mask, logits, hidden;
    int64_t dims[DFX_MAX_RANK];
    memcpy(dims, d.dims, sizeof dims);
    dims[d.rank - 1] = 1;
    z = reshape(k, io->in[0], d.rank, dims);
    stay = shaped(k, DIV(io->in[3], io->in[2]), io->in[1]);
    c = count(k, d.rank - 1, DFX_I32, d.rank, d.dims);
    is_mask = EQ(c, NUM(MASK));
    logits = with(k, DFX_OP_LOG_SOFTMAX, io->in[1], whole(DFX_ATTR_AXIS, -1));
    hidden = WHERE(is_mask, LOG(stay), ADD(logits, LOG(SUB(NUM(1.), stay))));
    io->out[0] = WHERE(EQ(z, NUM(MASK)), hidden, WHERE(EQ(z, c), NUM(0.), NUM(-INFINITY)));
    return DFX_OK;
}

static const dfx_process_api mask_api = {
    sizeof(dfx_process_api), 0, mask_info, NULL, NULL, NULL, mask_perturb, mask_prior, NULL, NULL,
    NULL, NULL, NULL, mask_loss_weight, mask_posterior, NULL, NULL,
};

/* ---- sampler: both one step down, the image by its ancestral draw, the token by its posterior */

TELL(joint_info, dfx_sampler_info, out)
{
    UNUSED;
    out->n_coeff = 5;                    /* sigma, sigma'^2/sigma^2, variance of the draw, t, s */
    out->n_variants = 1;
    out->stochasticity = 1.;
    return DFX_OK;
}

TELL(joint_plan, dfx_plan, plan)
{
    const double *sigma = plan->knots, *t = plan->knots + plan->n_steps + 1;
    uint32_t i;
    UNUSED;
    plan->n_rows = plan->n_steps;
    for (i = 0; plan->rows && i < plan->n_rows; i++) {
        const double s = sigma[i], u = sigma[i + 1];
        double *row = plan->rows + 5 * i;
        row[0] = s;
        row[1] = u * u / (s * s);
        row[2] = (s * s - u * u) * (u / s);
        row[3] = t[i];
        row[4] = t[i + 1];
        plan->variants[i] = 0;
    }
    return DFX_OK;
}

BUILD(joint_step, dfx_step_io)
{
    PEN;
    dfx_node x = io->x[0], z = io->x[1], level[2], d[2], in[4], logits;
    dfx_eval e;
    level[0] = io->coeff[0];
    level[1] = io->coeff[3];
    memset(&e, 0, sizeof e);
    e.struct_size = (uint32_t)sizeof e;
    e.x = io->x;
    e.sigma = level;
    TRY(k.build->denoise(g, 0, &e, 1, d));
    io->denoised[0] = d[0];
    io->denoised[1] = d[1];
    in[0] = ADD(d[0], MUL(io->coeff[1], SUB(x, d[0])));
    in[1] = shaped(k, io->coeff[2], x);
    TRY(process(k, 0, DFX_PROCESS_ANCESTRAL, DFX_PURPOSE_STEP, 2, in, &io->next[0]));
    in[0] = z;
    in[1] = d[1];
    in[2] = shaped(k, io->coeff[3], z);
    in[3] = shaped(k, io->coeff[4], z);
    TRY(process(k, 1, DFX_PROCESS_POSTERIOR, DFX_PURPOSE_STEP, 4, in, &logits));
    io->next[1] = draw_from(k, DFX_OP_CATEGORICAL, DFX_PURPOSE_STEP, logits);
    return DFX_OK;
}

KIT(mask, DFX_KIND_PROCESS, "joint.mask", (0), (0.));
MODEL(net, "joint.net", ("blind"), (0.));
SAMPLER(joint, "joint.sampler", (0), (0.));
PLUGIN(joint, &mask.base, &net.base, &joint.base);
