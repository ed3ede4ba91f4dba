//! GroupNorm (arXiv:1803.08494) of channels-last pictures. Its moments can be gathered from parts of a picture, so that
//! a picture may be normalised in bands of rows as if it were whole.

use crate::elementwise::Activation;
use crate::level::Simd;
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Product, Vectors, Work};

/// Numbers of a block of pixels that is normalised at once.
const BLOCK: usize = 8192;

/// Numbers of a block of pixels, which is read twice for its moments and should stay in the second cache. Smaller ones
/// would spend their time on what is done once for each.
const MOMENTS_BLOCK: usize = 1 << 16;

/// Pixels of such a block, at most: sums of f32 that ran over more would lose places.
const MOST_PIXELS: usize = 1024;

/// Vectors of channels that are summed beside each other, so that a sum need not wait for the one before.
const WIDE: usize = 8;

/// Mean and spread of each group of channels of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupMoments {
    /// Of each group.
    mean: Vec<f64>,
    /// The sum of (x - mean)² of each group.
    squares: Vec<f64>,
    /// Numbers of each group.
    count: usize,
}

impl GroupMoments {
    /// The moments of x (pixels, c) in `groups` groups of channels.
    ///
    /// # Panics
    /// When `groups` does not divide the channels, these not the numbers, or there are none.
    pub fn of<T: Number>(x: &[T], channels: usize, groups: usize) -> Self {
        Self::on(Simd::active(), x, channels, groups)
    }

    pub(super) fn on<T: Number>(simd: Simd, x: &[T], channels: usize, groups: usize) -> Self {
        assert!(
            groups > 0 && channels > 0 && channels.is_multiple_of(groups),
            "{channels} channels"
        );
        assert!(!x.is_empty() && x.len().is_multiple_of(channels), "pixels of {channels} numbers");
        let pixels = x.len() / channels;
        let block = (MOMENTS_BLOCK / channels).clamp(1, MOST_PIXELS);
        let mut parts = vec![None; pixels.div_ceil(block)];
        threads::parallel_chunks(&mut parts, 1, |i, part| {
            let end = pixels.min((i + 1) * block);
            let x = &x[i * block * channels..end * channels];
            part[0] = Some(Self::of_block(simd, x, channels, groups));
        });
        Self::merge(&parts.into_iter().flatten().collect::<Vec<_>>())
    }

    /// Two passes: the mean, then the squares of the distances from it.
    fn of_block<T: Number>(simd: Simd, x: &[T], channels: usize, groups: usize) -> Self {
        let count = x.len() / groups;
        let mut per_channel = vec![0.0; channels];
        let by_group = |sums: &[f32]| -> Vec<f64> {
            let group = |group: &[f32]| group.iter().map(|x| f64::from(*x)).sum();
            sums.chunks_exact(channels / groups).map(group).collect()
        };
        vector::run(simd, Sum { x, origin: None, sums: &mut per_channel });
        let mean: Vec<f64> = by_group(&per_channel).iter().map(|sum| sum / count as f64).collect();
        let origin: Vec<f32> =
            (0..channels).map(|c| mean[c / (channels / groups)] as f32).collect();
        vector::run(simd, Sum { x, origin: Some(&origin), sums: &mut per_channel });
        Self { squares: by_group(&per_channel), mean, count }
    }

    /// The moments of a picture from those of its parts, without the cancellation of a plain sum of squares
    /// (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm", 1979).
    ///
    /// # Panics
    /// When `parts` is empty or the parts have other numbers of groups.
    pub fn merge(parts: &[Self]) -> Self {
        let count: usize = parts.iter().map(|part| part.count).sum();
        let groups = parts[0].mean.len();
        assert!(parts.iter().all(|part| part.mean.len() == groups), "parts of {groups} groups");
        let share = |part: &Self| part.count as f64 / count as f64;
        let mean = |g: usize| parts.iter().map(|part| part.mean[g] * share(part)).sum();
        let mean: Vec<f64> = (0..groups).map(mean).collect();
        let squares = |g: usize| {
            let of_part = |part: &Self| {
                part.squares[g] + (part.mean[g] - mean[g]).powi(2) * part.count as f64
            };
            parts.iter().map(of_part).sum()
        };
        Self { squares: (0..groups).map(squares).collect(), mean, count }
    }

    /// GroupNorm by these moments, then `activation` if any.
    ///
    /// # Panics
    /// When the lengths of the weights disagree, or the groups do not divide them.
    pub fn normalization(
        &self,
        weights: &GroupNormWeights<'_>,
        activation: Option<Activation>,
    ) -> Normalization {
        let channels = weights.weight.len();
        assert_eq!(weights.bias.len(), channels, "as many biases as weights");
        assert!(channels.is_multiple_of(self.mean.len()), "moments of another norm");
        let group_size = channels / self.mean.len();
        let pair = |(c, (weight, bias)): (usize, (&f32, &f32))| {
            let (mean, squares) = (self.mean[c / group_size], self.squares[c / group_size]);
            let factor = f64::from(*weight) / (squares / self.count as f64 + weights.eps).sqrt();
            (factor as f32, (f64::from(*bias) - mean * factor) as f32)
        };
        let pairs = weights.weight.iter().zip(weights.bias).enumerate().map(pair);
        let (mut factor, mut summand): (Vec<f32>, Vec<f32>) = pairs.unzip();
        let padded = channels.next_multiple_of(PADDING);
        factor.resize(padded, 0.0);
        summand.resize(padded, 0.0);
        Normalization { channels, factor, summand, activation }
    }
}

/// Channels that a [`Normalization`] is padded to a multiple of: no level reads more at once.
const PADDING: usize = 32;

/// activation(x · factor + summand), channel by channel.
#[derive(Debug, Clone)]
pub struct Normalization {
    channels: usize,
    /// Of each channel, then zeros to a multiple of [`PADDING`].
    factor: Vec<f32>,
    summand: Vec<f32>,
    activation: Option<Activation>,
}

impl Normalization {
    /// How many it is for.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Of a vector of the channels from `c`. What was padded becomes zero.
    ///
    /// # Panics
    /// When no vector of channels begins at `c`.
    #[inline(always)]
    pub(crate) fn apply<V: Vectors, T: Number>(&self, v: V, x: V::F32, c: usize) -> V::F32 {
        let (factor, summand) = (&self.factor[c..][..V::LANES], &self.summand[c..][..V::LANES]);
        // SAFETY: both were just seen to be vectors.
        let y = unsafe { v.mul_add(x, v.load(factor.as_ptr()), v.load(summand.as_ptr())) };
        match self.activation {
            None => y,
            Some(Activation::Silu) => v.mul(y, T::Product::sigmoid(v, y)),
            Some(other) => other.apply(v, y),
        }
    }
}

/// Sums over pixels of x, or of (x - origin)² where there is an origin, channel by channel.
struct Sum<'a, T> {
    /// (pixels, c)
    x: &'a [T],
    /// (c)
    origin: Option<&'a [f32]>,
    /// (c), overwritten.
    sums: &'a mut [f32],
}

impl<T: Number> Work for Sum<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(mut self, v: V) {
        let channels = self.sums.len();
        let mut c = 0;
        while c < channels {
            c += match (channels - c) / V::LANES {
                WIDE.. => self.some::<V, WIDE>(v, c),
                4.. => self.some::<V, 4>(v, c),
                1.. => self.some::<V, 1>(v, c),
                0 => self.last(v, c),
            };
        }
    }
}

impl<T: Number> Sum<'_, T> {
    /// `N` vectors of channels from `c`; returns how many channels these are.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "sums and memory are walked in step")]
    fn some<V: Vectors, const N: usize>(&mut self, v: V, c: usize) -> usize {
        let channels = self.sums.len();
        assert!(c + N * V::LANES <= channels, "whole vectors");
        let mut sums = [v.splat(0.0); N];
        let pixels = self.x.chunks_exact(channels);
        // SAFETY: these channels were just seen to be there, of every pixel and of all slices as long.
        unsafe {
            match self.origin {
                None => {
                    for pixel in pixels {
                        let x = pixel.as_ptr().add(c);
                        for i in 0..N {
                            sums[i] = v.add(sums[i], T::load(v, x.add(i * V::LANES)));
                        }
                    }
                }
                Some(origin) => {
                    let origin = origin[c..channels].as_ptr();
                    for pixel in pixels {
                        let x = pixel.as_ptr().add(c);
                        for i in 0..N {
                            let origin = v.load(origin.add(i * V::LANES));
                            let x = v.sub(T::load(v, x.add(i * V::LANES)), origin);
                            sums[i] = v.mul_add(x, x, sums[i]);
                        }
                    }
                }
            }
            for i in 0..N {
                v.store(self.sums.as_mut_ptr().add(c + i * V::LANES), sums[i]);
            }
        }
        N * V::LANES
    }

    /// The channels from `c`, which are less than a vector; returns how many.
    #[inline(always)]
    fn last<V: Vectors>(&mut self, v: V, c: usize) -> usize {
        let left = self.sums.len() - c;
        let mut sum = v.splat(0.0);
        // SAFETY: every pixel and all slices hold the channels from `c` on.
        unsafe {
            let origin = match self.origin {
                Some(origin) => v.load_first(origin[c..].as_ptr(), left),
                None => sum,
            };
            for pixel in self.x.chunks_exact(self.sums.len()) {
                let x = v.sub(T::load_first(v, pixel.as_ptr().add(c), left), origin);
                sum = match self.origin {
                    Some(_) => v.mul_add(x, x, sum),
                    None => v.add(sum, x),
                };
            }
            v.store_first(self.sums.as_mut_ptr().add(c), sum, left);
        }
        left
    }
}

/// Weight, bias and epsilon of a norm.
#[derive(Debug, Clone, Copy)]
pub struct GroupNormWeights<'a> {
    /// (c)
    pub weight: &'a [f32],
    /// (c)
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
}

/// GroupNorm of x (pixels, c) by `moments`, then `activation` if any.
///
/// # Panics
/// When the lengths disagree.
pub fn group_norm<T: Number>(
    x: &[T],
    moments: &GroupMoments,
    weights: &GroupNormWeights<'_>,
    activation: Option<Activation>,
    out: &mut [T],
) {
    group_norm_on(Simd::active(), x, moments, weights, (activation, out));
}

pub(super) fn group_norm_on<T: Number>(
    simd: Simd,
    x: &[T],
    moments: &GroupMoments,
    weights: &GroupNormWeights<'_>,
    (activation, out): (Option<Activation>, &mut [T]),
) {
    let norm = moments.normalization(weights, activation);
    let channels = norm.channels;
    assert_eq!(x.len(), out.len(), "as many numbers in as out");
    assert!(channels > 0 && x.len().is_multiple_of(channels), "pixels of {channels} numbers");
    let pixels = (BLOCK / channels).max(1);
    let (pixels_total, out) = (x.len() / channels, SharedPtr::new(out));
    threads::parallel_for(pixels_total.div_ceil(pixels), |task| {
        let start = task * pixels * channels;
        let x = &x[start..x.len().min(start + pixels * channels)];
        // SAFETY: blocks of pixels do not overlap.
        let out = unsafe { out.slice(start, x.len()) };
        vector::run(simd, Apply { x, norm: &norm, out });
    });
}

/// Normalises pixel by pixel.
struct Apply<'a, T> {
    x: &'a [T],
    norm: &'a Normalization,
    out: &'a mut [T],
}

impl<T: Number> Work for Apply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let channels = self.norm.channels;
        for (x, out) in self.x.chunks_exact(channels).zip(self.out.chunks_exact_mut(channels)) {
            let mut c = 0;
            while c < channels {
                let left = channels - c;
                // SAFETY: c < channels, which both pixels hold.
                unsafe {
                    let x = T::load_up_to(v, x.as_ptr().add(c), left);
                    let y = self.norm.apply::<V, T>(v, x, c);
                    T::store_up_to(v, out.as_mut_ptr().add(c), y, left);
                }
                c += V::LANES;
            }
        }
    }
}
