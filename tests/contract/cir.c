/* Case 2. The Cox-Ingersoll-Ross process with its exact transition drawn inside the graph.
 *
 * dX = kappa (theta - X) dt + sigma sqrt(X) dW is e^{-kappa t} times a squared Bessel process of
 * dimension delta = 4 kappa theta / sigma^2 at the clock u = sigma^2 (e^{kappa t} - 1) / (4 kappa).
 * The coordinate is w = sqrt(BESQ), the noise level sqrt(u). One draw of BESQ(x0; u) is a shifted
 * normal squared plus a gamma for delta > 1, and a gamma of Poisson shape for any delta, which is
 * what is left when Feller's condition (delta >= 2) fails badly. */
#include "contract.h"

/* ---- process */

enum { KAPPA, THETA, SIGMA, GAUSSIAN };  /* GAUSSIAN: the wrong draw, normal about mu */

static double delta_of(const void *self)
{
    return 4. * P(KAPPA) * P(THETA) / (P(SIGMA) * P(SIGMA));
}

static dfx_node besq(pen k, double delta, uint32_t purpose, dfx_node x0, dfx_node u)
{
    dfx_node like = ADD(x0, u), shape;
    if (delta > 1.) {
        dfx_node xi = draw(k, DFX_OP_NORMAL, purpose, like);
        dfx_node rest = MUL(like, NUM(0.));
        rest = draw_from(k, DFX_OP_GAMMA, purpose, ADD(rest, NUM((delta - 1.) / 2.)));
        return ADD(SQUARE(ADD(SQRT(x0), MUL(SQRT(u), xi))), MUL(MUL(NUM(2.), u), rest));
    }
    shape = ADD(NUM(delta / 2.), draw_from(k, DFX_OP_POISSON, purpose, DIV(x0, MUL(NUM(2.), u))));
    return MUL(MUL(NUM(2.), u), draw_from(k, DFX_OP_GAMMA, purpose, shape));
}

RANGE(cir_info)
{
    UNUSED;
    out->space = DFX_SPACE_CONTINUOUS;
    out->flags = DFX_PROCESS_IS_POSITIVE | DFX_PROCESS_IS_HOMOGENEOUS;
    out->sigma_min = 3e-3 * sqrt(stats->w_var);
    out->sigma_max = 30. * sqrt(stats->x_mean);
    return DFX_OK;
}

static dfx_status DFX_CALL cir_clock(const void *self, const double *times, uint32_t n,
                                     double *sigmas, dfx_error *err)
{
    uint32_t i;
    UNUSED;
    for (i = 0; i < n; i++)
        sigmas[i] = P(SIGMA) * sqrt(expm1(P(KAPPA) * times[i]) / (4. * P(KAPPA)));
    return DFX_OK;
}

BUILD(cir_encode, dfx_process_io)
{
    PEN;
    io->out[0] = SQRT(io->in[0]);
    return DFX_OK;
}

/* e^{kappa t} = 1 + 4 kappa u / sigma^2 */
BUILD(cir_decode, dfx_process_io)
{
    PEN;
    const double per_u = 4. * P(KAPPA) / (P(SIGMA) * P(SIGMA));
    dfx_node growth = ADD(NUM(1.), MUL(NUM(per_u), SQUARE(io->in[1])));
    io->out[0] = DIV(SQUARE(io->in[0]), growth);
    return DFX_OK;
}

BUILD(cir_perturb, dfx_process_io)
{
    PEN;
    const double nu = delta_of(self) / 2. - 1.;
    dfx_node w0 = io->in[0], u = SQUARE(io->in[1]);
    dfx_node w = SQRT(besq(k, delta_of(self), io->purpose, SQUARE(w0), u));
    dfx_node ratio = with(k, DFX_OP_BESSEL_RATIO, DIV(MUL(w, w0), u), real(DFX_ATTR_NU, nu));
    io->out[0] = w;
    io->out[1] = MUL(w0, ratio);
    return DFX_OK;
}

/* (E[X0]/delta + u) chi^2_delta: exact for data b chi^2_delta. */
BUILD(cir_prior, dfx_process_io)
{
    PEN;
    dfx_node scale = ADD(SQUARE(io->in[0]), NUM(io->stats->x_mean / delta_of(self)));
    dfx_node zero = blank(k, io->component);
    io->out[0] = SQRT(besq(k, delta_of(self), io->purpose, zero, ADD(zero, scale)));
    return DFX_OK;
}

BUILD(cir_precond, dfx_process_io)
{
    PEN;
    const double m = io->stats->x_mean, delta = delta_of(self);
    dfx_node s = io->in[0], u = SQUARE(s), tail = MUL(u, NUM(delta / io->stats->x_var));
    dfx_node precision = ADD(ADD(DIV(NUM(1.), u), NUM(1. / io->stats->w_var)), tail);
    io->out[0] = DIV(NUM(m / delta), ADD(NUM(m / delta), u));
    io->out[1] = DIV(NUM(1.), SQRT(precision));
    io->out[2] = DIV(NUM(1.), SQRT(ADD(NUM(m), MUL(NUM(delta), u))));
    io->out[3] = MUL(LOG(s), NUM(.25));
    io->out[4] = precision;
    return DFX_OK;
}

BUILD(cir_renoise, dfx_process_io)
{
    PEN;
    dfx_node u = SUB(SQUARE(io->in[2]), SQUARE(io->in[1]));
    io->out[0] = SQRT(besq(k, delta_of(self), io->purpose, SQUARE(io->in[0]), u));
    return DFX_OK;
}

BUILD(cir_ancestral, dfx_process_io)
{
    PEN;
    dfx_node mu = io->in[0], v = io->in[1];
    if (P(GAUSSIAN) != 0.) {
        dfx_node xi = draw(k, DFX_OP_NORMAL, io->purpose, mu);
        io->out[0] = op1(k, DFX_OP_ABS, ADD(mu, MUL(SQRT(v), xi)));
        return DFX_OK;
    }
    io->out[0] = SQRT(besq(k, delta_of(self), io->purpose, SQUARE(mu), v));
    return DFX_OK;
}

/* For Euler paths. */
BUILD(cir_sde, dfx_process_io)
{
    PEN;
    dfx_node x = io->in[0];
    io->out[0] = MUL(NUM(P(KAPPA)), SUB(NUM(P(THETA)), x));
    io->out[1] = MUL(NUM(P(SIGMA)), SQRT(x));
    return DFX_OK;
}

static const dfx_process_api cir_api = {
    sizeof(dfx_process_api), 0, cir_info, cir_clock, cir_encode, cir_decode, cir_perturb, cir_prior,
    cir_precond, cir_renoise, cir_ancestral, NULL, NULL, NULL, NULL, cir_sde, NULL,
};

/* ---- model: D for data b chi'^2_delta(lambda), closed form */

enum { B, LAMBDA, DELTA };

static const dfx_component state = {{0, 1, {1}}, DFX_SPACE_CONTINUOUS, 0, "x", NULL};

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
    const double b = P(B), root = sqrt(b * P(LAMBDA));
    dfx_node r = io->x[0], u = variance(k, io->sigma[0], r), sum = ADD(NUM(b), u);
    dfx_node z = DIV(MUL(r, NUM(root)), sum);
    dfx_node ratio = with(k, DFX_OP_BESSEL_RATIO, z, real(DFX_ATTR_NU, P(DELTA) / 2. - 1.));
    io->out[0] = DIV(ADD(MUL(NUM(b), r), MUL(MUL(u, NUM(root)), ratio)), sum);
    return DFX_OK;
}

KIT(cir, DFX_KIND_PROCESS, "cir", ("kappa", "theta", "sigma", "gaussian"), (1., .75, 1., 0.));
MODEL(net, "cir.net", ("b", "lambda", "delta"), (1., 0., 3.));
PLUGIN(cir, &cir.base, &net.base);
