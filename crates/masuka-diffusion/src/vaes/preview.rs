//! Latents seen before they are decoded: colours as a linear function of a latent's channels, one pixel a latent. The
//! factors are fitted to the autoencoder itself, on pictures of soft colours whose latents it tells.

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{AutoencoderKl, Tiling};
use crate::error::Result;
use crate::noise::{Generator, Seed};
use crate::observer::StepObserver;

/// Latents along each side of a picture that is fitted to.
const LATENT_SIDE: usize = 16;
/// Colours along each side of the pictures: from a wash to a mosaic.
const MOSAICS: [usize; 8] = [1, 2, 2, 3, 4, 4, 6, 8];
/// Keeps the equations solvable where channels tell the same, relative to the number of samples.
const RIDGE: f64 = 1e-4;

/// Red, green and blue as a linear function of a latent's channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewFactors {
    /// What each channel adds to red, green and blue, in 0…1.
    channels: Vec<[f32; 3]>,
    /// Red, green and blue of a latent of zeros.
    base: [f32; 3],
}

impl PreviewFactors {
    /// Fits the factors to `vae` by least squares; takes its encoder eight small pictures.
    ///
    /// # Errors
    /// When the device fails or `observer` cancels.
    pub fn fit(vae: &AutoencoderKl, device: &Device, observer: &dyn StepObserver) -> Result<Self> {
        let mut generator = Generator::new(Seed::new(0)?);
        let mut equations = Equations::new(vae.config().latent_channels + 1);
        for colours in MOSAICS {
            let side = LATENT_SIDE * vae.config().spatial_factor();
            let mosaic = Mosaic::random(colours, &mut generator);
            let picture = mosaic.picture(side, device)?;
            let seen = vae.encode(&picture, Tiling::Whole, observer)?;
            let latents = Planes::of(&vae.scale(&seen.mean)?.squeeze(0)?)?;
            for y in 0..LATENT_SIDE {
                for x in 0..LATENT_SIDE {
                    let mut row = latents.at(x, y);
                    row.push(1.0);
                    equations.add(&row, mosaic.colour(middle(x), middle(y)));
                }
            }
        }
        Ok(equations.solve())
    }

    /// The colours of `latents` (c, y, x), a pixel a latent.
    ///
    /// # Errors
    /// When the device fails.
    pub fn render(&self, latents: &Tensor) -> Result<RgbImage> {
        let planes = Planes::of(latents)?;
        let pixel = |x: u32, y: u32| {
            let latent = planes.at(x as usize, y as usize);
            let colour = |c: usize| {
                let sum: f32 = self.channels.iter().zip(&latent).map(|(f, l)| f[c] * l).sum();
                ((self.base[c] + sum) * 255.0).round().clamp(0.0, 255.0) as u8
            };
            image::Rgb([colour(0), colour(1), colour(2)])
        };
        Ok(RgbImage::from_fn(planes.width as u32, planes.height as u32, pixel))
    }
}

/// The middle of a latent, from 0 to 1 along a side.
fn middle(place: usize) -> f32 {
    (place as f32 + 0.5) / LATENT_SIDE as f32
}

/// Latents on the host, channel by channel.
struct Planes {
    values: Vec<f32>,
    width: usize,
    height: usize,
}

impl Planes {
    fn of(latents: &Tensor) -> Result<Self> {
        let (_, height, width) = latents.dims3()?;
        let host = latents.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        Ok(Self { values: host.flatten_all()?.to_vec1()?, width, height })
    }

    /// The channels of one latent.
    fn at(&self, x: usize, y: usize) -> Vec<f32> {
        let plane = self.width * self.height;
        self.values.iter().skip(y * self.width + x).step_by(plane).copied().collect()
    }
}

/// Colours on a grid, blended between.
struct Mosaic {
    side: usize,
    colours: Vec<[f32; 3]>,
}

impl Mosaic {
    fn random(side: usize, generator: &mut Generator) -> Self {
        let values = generator.randn(side * side * 3);
        let unit = |value: f32| (0.5 + 0.35 * value).clamp(0.0, 1.0);
        let colours = values.chunks_exact(3).map(|c| [unit(c[0]), unit(c[1]), unit(c[2])]);
        Self { side, colours: colours.collect() }
    }

    /// The colour at a place from 0 to 1 along each side.
    fn colour(&self, x: f32, y: f32) -> [f32; 3] {
        let split = |place: f32| {
            let place = (place * self.side as f32 - 0.5).clamp(0.0, (self.side - 1) as f32);
            let first = place.floor() as usize;
            (first, (first + 1).min(self.side - 1), place - first as f32)
        };
        let ((x0, x1, right), (y0, y1, down)) = (split(x), split(y));
        let at = |x: usize, y: usize, c: usize| self.colours[y * self.side + x][c];
        std::array::from_fn(|c| {
            let upper = at(x0, y0, c) * (1.0 - right) + at(x1, y0, c) * right;
            let lower = at(x0, y1, c) * (1.0 - right) + at(x1, y1, c) * right;
            upper * (1.0 - down) + lower * down
        })
    }

    /// As pixels (1, 3, side, side) in −1…1.
    fn picture(&self, side: usize, device: &Device) -> Result<Tensor> {
        let place = |i: usize| (i as f32 + 0.5) / side as f32;
        let pixels = (0..side * side).map(|i| self.colour(place(i % side), place(i / side)));
        let pixels: Vec<_> = pixels.collect();
        let planes = (0..3).flat_map(|c| pixels.iter().map(move |pixel| pixel[c] * 2.0 - 1.0));
        Ok(Tensor::from_vec(planes.collect::<Vec<_>>(), (1, 3, side, side), device)?)
    }
}

/// The normal equations of least squares: XᵀX and XᵀY, grown sample by sample.
struct Equations {
    size: usize,
    /// Rows of XᵀX, each followed by its three numbers of XᵀY.
    rows: Vec<Vec<f64>>,
    samples: f64,
}

impl Equations {
    fn new(size: usize) -> Self {
        Self { size, rows: vec![vec![0.0; size + 3]; size], samples: 0.0 }
    }

    fn add(&mut self, sample: &[f32], colour: [f32; 3]) {
        let values = sample.iter().chain(&colour).map(|v| f64::from(*v));
        let values: Vec<_> = values.collect();
        for (row, factor) in self.rows.iter_mut().zip(&values) {
            row.iter_mut().zip(&values).for_each(|(sum, value)| *sum += factor * value);
        }
        self.samples += 1.0;
    }

    /// Gauss and Jordan; the ridge keeps every pivot above zero.
    fn solve(mut self) -> PreviewFactors {
        for i in 0..self.size {
            self.rows[i][i] += RIDGE * self.samples;
        }
        for i in 0..self.size {
            let pivot = self.rows[i].clone();
            for (k, row) in self.rows.iter_mut().enumerate() {
                let factor = if k == i { 1.0 - 1.0 / pivot[i] } else { row[i] / pivot[i] };
                row.iter_mut().zip(&pivot).for_each(|(value, p)| *value -= factor * p);
            }
        }
        let solution = |row: &Vec<f64>| std::array::from_fn(|c| row[self.size + c] as f32);
        let mut channels: Vec<[f32; 3]> = self.rows.iter().map(solution).collect();
        let base = channels.pop().unwrap_or_default();
        PreviewFactors { channels, base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_law_is_found_again() {
        let law = |l: &[f32]| [0.5 + 0.1 * l[0], 0.2 - 0.3 * l[1], 0.4 + 0.2 * l[0] + 0.1 * l[1]];
        let mut equations = Equations::new(3);
        for sample in Generator::new(Seed::new(1).unwrap()).randn(400).chunks_exact(2) {
            equations.add(&[sample[0], sample[1], 1.0], law(sample));
        }
        let found = equations.solve();
        let expected = [[0.1, 0.0, 0.2], [0.0, -0.3, 0.1]];
        for (found, expected) in
            found.channels.iter().zip(expected).chain([(&found.base, [0.5, 0.2, 0.4])])
        {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn latents_are_read_channel_by_channel() {
        let latents = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
        let planes = Planes::of(&latents.reshape((2, 2, 3)).unwrap()).unwrap();
        assert_eq!(planes.at(2, 1), [5.0, 11.0]);
    }
}
