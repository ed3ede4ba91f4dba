//! Which pictures make up which batch: every epoch all pictures in a new random order, batches of one size each.

use std::collections::{BTreeMap, VecDeque};

use masuka_diffusion::noise::Seed;

use super::Bucket;
use crate::error::Result;
use crate::randomness::{self, Purpose};

/// An endless sequence of batches, a function of the seed alone.
#[derive(Debug, Clone)]
pub struct BatchOrder {
    buckets: Vec<Bucket>,
    batch: usize,
    seed: Seed,
    epoch: u64,
    /// The rest of the epoch.
    left: VecDeque<usize>,
    /// Pictures that wait for others of their size; what an epoch leaves over goes into the next one's first batch.
    waiting: BTreeMap<Bucket, Vec<usize>>,
}

impl BatchOrder {
    /// Batches of `batch` pictures, of which number *i* has the size `buckets[i]`.
    pub fn new(buckets: Vec<Bucket>, batch: usize, seed: Seed) -> Self {
        let (left, waiting) = (VecDeque::new(), BTreeMap::new());
        Self { buckets, batch, seed, epoch: 0, left, waiting }
    }

    /// Begun epochs.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next batch: its size and its pictures.
    ///
    /// # Errors
    /// Never, as long as there are pictures.
    pub fn next_batch(&mut self) -> Result<(Bucket, Vec<usize>)> {
        loop {
            let Some(picture) = self.left.pop_front() else {
                self.begin_epoch()?;
                continue;
            };
            let bucket = self.buckets[picture];
            let waiting = self.waiting.entry(bucket).or_default();
            waiting.push(picture);
            if waiting.len() == self.batch {
                return Ok((bucket, std::mem::take(waiting)));
            }
        }
    }

    fn begin_epoch(&mut self) -> Result<()> {
        let mut pictures: Vec<usize> = (0..self.buckets.len()).collect();
        let mut generator = randomness::stream(self.seed, Purpose::Order, self.epoch)?;
        randomness::shuffle(&mut pictures, &mut generator);
        self.left = pictures.into();
        self.epoch += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(buckets: &[Bucket], batch: usize) -> BatchOrder {
        BatchOrder::new(buckets.to_vec(), batch, Seed::new(3).expect("a seed"))
    }

    #[test]
    fn batches_are_full_and_every_picture_comes_as_often() {
        let (wide, high) = (Bucket { width: 144, height: 112 }, Bucket { width: 112, height: 144 });
        let buckets = [wide, wide, wide, high, high, high, high];
        let mut order = order(&buckets, 2);
        let mut seen = [0; 7];
        for _ in 0..70 {
            let (bucket, pictures) = order.next_batch().expect("a batch");
            assert_eq!(pictures.len(), 2);
            for picture in pictures {
                assert_eq!(buckets[picture], bucket);
                seen[picture] += 1;
            }
        }
        assert!(seen.iter().all(|times| (19..=21).contains(times)), "{seen:?}");
    }

    #[test]
    fn one_picture_fills_a_batch_over_several_epochs() {
        let mut order = order(&[Bucket { width: 64, height: 64 }], 4);
        assert_eq!(order.next_batch().expect("a batch").1, [0; 4]);
        assert_eq!(order.epoch(), 4);
    }

    #[test]
    fn the_seed_alone_decides() {
        let buckets = vec![Bucket { width: 64, height: 64 }; 9];
        let batches = |seed| {
            let mut order = BatchOrder::new(buckets.clone(), 4, Seed::new(seed).expect("a seed"));
            (0..9).map(|_| order.next_batch().expect("a batch").1).collect::<Vec<_>>()
        };
        assert_eq!(batches(1), batches(1));
        assert_ne!(batches(1), batches(2));
    }
}
