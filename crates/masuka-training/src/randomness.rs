//! One seed, many streams: every random choice of a training is a function of the seed, what it is for, and its step.
//! So there is no state to save: a resumed training draws what it would have drawn.

use masuka_diffusion::noise::{Generator, Seed};

use crate::error::Result;

/// What a stream of random numbers is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The first values of A.
    Adapter = 1,
    /// The order of the pictures; indexed by epoch.
    Order = 2,
    /// Noise; indexed by micro-batch.
    Noise = 3,
    /// How noisy each picture of a batch is; indexed by micro-batch.
    Timesteps = 4,
    /// Which captions are dropped; indexed by micro-batch.
    CaptionDropout = 5,
    /// The noise of prior pictures; indexed by picture.
    Prior = 6,
}

/// The numbers of `purpose` at `index`.
///
/// # Errors
/// Never: the mixed seed has 32 bits.
pub fn stream(seed: Seed, purpose: Purpose, index: u64) -> Result<Generator> {
    let mixed = mix(mix(mix(seed.value()) ^ purpose as u64) ^ index);
    Ok(Generator::new(Seed::new(mixed >> 32)?))
}

/// A number of 0…1 without 1.
pub fn uniform(generator: &mut Generator) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// `items` in random order (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T], generator: &mut Generator) {
    for last in (1..items.len()).rev() {
        let chosen = (uniform(generator) * (last + 1) as f64) as usize;
        items.swap(last, chosen.min(last));
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, purpose: Purpose, index: u64) -> u64 {
        let seed = Seed::new(seed).expect("a seed");
        stream(seed, purpose, index).expect("a stream").next_u64()
    }

    #[test]
    fn streams_differ_by_seed_purpose_and_index() {
        let reference = first(0, Purpose::Noise, 0);
        assert_eq!(reference, first(0, Purpose::Noise, 0));
        for other in [first(1, Purpose::Noise, 0), first(0, Purpose::Order, 0)] {
            assert_ne!(reference, other);
        }
        assert_ne!(reference, first(0, Purpose::Noise, 1));
    }

    #[test]
    fn shuffling_reaches_every_place_evenly() {
        let mut counts = [[0; 4]; 4];
        for index in 0..4000 {
            let mut items = [0, 1, 2, 3];
            let seed = Seed::new(5).expect("a seed");
            shuffle(&mut items, &mut stream(seed, Purpose::Order, index).expect("a stream"));
            for (place, item) in items.into_iter().enumerate() {
                counts[place][item] += 1;
            }
        }
        assert!(
            counts.as_flattened().iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
