//! What any law can have at most of a reward for its KL to a model: the tilts of the model's law by exp(lambda r), from samples
//! of it.

/// Rewards under the model.
pub(crate) struct Frontier {
    rewards: Vec<f64>,
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
}

impl Frontier {
    pub(crate) fn of(rewards: &[f64]) -> Self {
        let n = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let var = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n;
        Self { rewards: rewards.to_vec(), mean, deviation: var.sqrt() }
    }

    /// Mean reward and KL of a tilt.
    pub(crate) fn tilt(&self, lambda: f64) -> (f64, f64) {
        let most = self.rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = self.rewards.iter().map(|r| (lambda * (r - most)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mean = self.rewards.iter().zip(&weights).map(|(r, w)| r * w).sum::<f64>() / total;
        let log_z = (total / self.rewards.len() as f64).ln() + lambda * most;
        (mean, lambda * mean - log_z)
    }

    /// The least KL of a law of this mean reward, which is a tilt's; NaN where no tilt of these samples has it.
    pub(crate) fn least_kl(&self, reward: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1000.0);
        if !(self.mean..self.tilt(high).0).contains(&reward) {
            return f64::NAN;
        }
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.tilt(middle).0 < reward { low = middle } else { high = middle }
        }
        self.tilt(low).1
    }
}
