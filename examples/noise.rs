//! Our side of the noise row of `benches/peers/simulate.py`: so many normals on so many threads, over blocks that stay
//! in the cache. Prints seconds by the clock, CPU seconds, and the mean of some.

use diffx::base::philox::Stream;
use std::time::Instant;

const BLOCK: u64 = 4096;

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (total, threads) =
        (arguments.first().copied().unwrap_or(1 << 26), arguments.get(1).copied().unwrap_or(1));
    let stream = Stream { seed: 42, purpose: 0, step: 7, ordinal: 0 };
    let start = Instant::now();
    let (mut sum, mut cpu) = (0.0, 0.0);
    std::thread::scope(|s| {
        let run = |t: u64| {
            let mut x = [0f32; BLOCK as usize];
            let mut sum = 0.0;
            for b in (t..total / BLOCK).step_by(threads as usize) {
                stream.fill_normal_f32(b * BLOCK, &mut x);
                sum += f64::from(x[(b % BLOCK) as usize]);
            }
            (sum, own_cpu())
        };
        let workers: Vec<_> = (0..threads).map(|t| s.spawn(move || run(t))).collect();
        for (a, b) in workers.into_iter().filter_map(|w| w.join().ok()) {
            sum += a;
            cpu += b;
        }
    });
    let clock = start.elapsed().as_secs_f64();
    println!("{clock:.6} {cpu:.6} {:.6}", sum / (total / BLOCK) as f64);
}

/// CPU seconds of this thread; 0 where the system does not say.
fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(0.0, |ns| ns * 1e-9)
}
