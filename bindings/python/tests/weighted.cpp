// weighted.cpp - an objective of rewards as a plugin to load: learns more from what was judged better, by the mean of
// reward (D - target)^2 at one level. For test_tuning.py.
#include "diffx_plugin.hpp"

using namespace diffx::plugin;

struct weighted {
    explicit weighted(config &) {}
    void info(dfx_objective_info *out) const {
        out->records = DFX_RECORD_REWARD;
        out->n_rewards = 1;
    }
    void loss(const loss_call &b) const {
        node sigma = b.full({b.batch(), 1}, 1.0);
        auto [w0] = b.process(0, DFX_PROCESS_ENCODE, {b.of(b.io().x0[0])});
        auto [w, target] = b.process<2>(0, DFX_PROCESS_PERTURB, {w0, sigma}, DFX_PURPOSE_DATA);
        node D = b.denoised(b.denoiser_of("base"), w, sigma);
        node judged = reshape(b.of(b.io().reward), {-1, 1});
        b.io().loss = mean(judged * square(D - stop_gradient(target))).id();
    }
};

static const dfx_factory learner = objective<weighted>("org.test.weighted", "a regression weighted by rewards");
static const dfx_factory *const learners[] = {&learner};
DFX_PLUGIN(weighted_test) = {DFX_PLUGIN_HEADER, 1, learners, "org.test", "1.0.0", "MIT"};
