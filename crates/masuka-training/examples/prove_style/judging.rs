//! What is seen in pictures without eyes: the colour of their ground, and which original they resemble most.

use image::{RgbImage, imageops};
use masuka_training::dataset::Dataset;

use crate::Result;

pub const WHITE: [f64; 3] = [255.0; 3];
/// Euclidean distance in RGB within which two grounds count as the same.
const NEAR: f64 = 40.0;
/// Pixels of the border on each side.
const BORDER: u32 = 4;
/// The side at which shapes are compared: lines a few pixels off still overlap.
const COARSE: u32 = 16;

/// The held-out pictures themselves.
pub struct Originals(Vec<RgbImage>);

impl Originals {
    pub fn open(held_out: &Dataset) -> Result<Self> {
        let open = |path| Ok(image::open(path)?.to_rgb8());
        let pictures = held_out.pictures.iter().map(|picture| open(&picture.path));
        Ok(Self(pictures.collect::<Result<_>>()?))
    }

    pub fn into_pictures(self) -> Vec<RgbImage> {
        self.0
    }

    /// How many of `drawn` have the ground of their original.
    pub fn near_own_ground(&self, drawn: &[RgbImage]) -> usize {
        let pairs = drawn.iter().zip(&self.0);
        pairs.filter(|(picture, own)| distance(border(picture), border(own)) <= NEAR).count()
    }

    /// How many of `drawn` resemble their own original more than any other: a blind eye's share of what is recognised.
    pub fn nearest_to_own(&self, drawn: &[RgbImage]) -> usize {
        let shapes: Vec<_> = self.0.iter().map(shape).collect();
        let is_own = |(index, picture): (usize, &RgbImage)| {
            let shape = shape(picture);
            let likeness = |other: &Vec<f64>| shape.iter().zip(other).map(|(a, b)| a * b).sum();
            let likenesses: Vec<f64> = shapes.iter().map(likeness).collect();
            likenesses.iter().all(|other| *other <= likenesses[index])
        };
        drawn.iter().enumerate().filter(|drawn| is_own(*drawn)).count()
    }
}

/// How many of `pictures` have a ground of `colour`.
pub fn near(pictures: &[RgbImage], colour: [f64; 3]) -> usize {
    pictures.iter().filter(|picture| distance(border(picture), colour) <= NEAR).count()
}

/// The mean colour of the border.
fn border(picture: &RgbImage) -> [f64; 3] {
    let (width, height) = picture.dimensions();
    let is_border =
        |x: u32, y: u32| x.min(y) < BORDER || x >= width - BORDER || y >= height - BORDER;
    let border: Vec<_> =
        picture.enumerate_pixels().filter(|(x, y, _)| is_border(*x, *y)).map(|p| p.2.0).collect();
    [0, 1, 2].map(|c| border.iter().map(|p| f64::from(p[c])).sum::<f64>() / border.len() as f64)
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|c| (a[c] - b[c]).powi(2)).sum::<f64>().sqrt()
}

/// The picture's greys, made small, of mean 0 and length 1: the product of two shapes is their correlation.
fn shape(picture: &RgbImage) -> Vec<f64> {
    let grey = imageops::grayscale(picture);
    let coarse = imageops::resize(&grey, COARSE, COARSE, imageops::FilterType::Triangle);
    let values: Vec<f64> = coarse.pixels().map(|pixel| f64::from(pixel.0[0])).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let length = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt().max(1e-9);
    values.iter().map(|v| (v - mean) / length).collect()
}
