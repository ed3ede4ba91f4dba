//! How noisy the pictures of a batch are: logit-normal times (arXiv:2403.03206, section 3.1), bent towards noise by
//! the resolution as the sampler's are (section 5.3.2). Trainers know this as `flux_shift` (sd-scripts) or as
//! `logit_normal` with the scheduler's shift.

use masuka_diffusion::noise::Generator;
use masuka_diffusion::samplers::ScheduleConfig;

use crate::randomness;

/// `count` sigmas for pictures of `image_tokens` tokens.
pub fn sample_sigmas(
    generator: &mut Generator,
    count: usize,
    config: &ScheduleConfig,
    image_tokens: usize,
) -> Vec<f32> {
    let normal = generator.randn(count);
    let times = normal.into_iter().map(|n| 1.0 / (1.0 + (-n).exp()));
    times.map(|time| config.shifted(time, image_tokens)).collect()
}

/// Makes about `share` of `sigmas` 1; see [`Recipe::share_of_pure_noise`](crate::recipe::Recipe::share_of_pure_noise).
pub fn hide_some(generator: &mut Generator, sigmas: &mut [f32], share: f64) {
    for sigma in sigmas {
        if randomness::uniform(generator) < share {
            *sigma = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use masuka_diffusion::noise::Seed;

    use super::*;

    fn median(config: &ScheduleConfig, image_tokens: usize) -> f32 {
        let mut generator = Generator::new(Seed::new(1).expect("a seed"));
        let mut sigmas = sample_sigmas(&mut generator, 20_001, config, image_tokens);
        assert!(sigmas.iter().all(|sigma| (0.0..=1.0).contains(sigma)));
        sigmas.sort_by(f32::total_cmp);
        sigmas[10_000]
    }

    #[test]
    fn larger_pictures_are_trained_at_more_noise() {
        // sigmoid(mu), mu = 0.5 at 256 tokens and 1.15 at 4096.
        let dev = ScheduleConfig::flux_dev();
        assert!((median(&dev, 256) - 0.6225).abs() < 0.01);
        assert!((median(&dev, 4096) - 0.7595).abs() < 0.01);
        assert!((median(&ScheduleConfig::flux_schnell(), 4096) - 0.5).abs() < 0.01);
    }

    #[test]
    fn a_share_is_all_noise_and_the_rest_is_left() {
        let mut generator = Generator::new(Seed::new(1).expect("a seed"));
        let mut sigmas = vec![0.5; 4000];
        hide_some(&mut generator, &mut sigmas, 0.25);
        let hidden = sigmas.iter().filter(|sigma| **sigma == 1.0).count();
        assert!((900..1100).contains(&hidden), "{hidden}");
        assert_eq!(sigmas.iter().filter(|sigma| **sigma == 0.5).count(), 4000 - hidden);
    }
}
