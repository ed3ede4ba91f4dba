//! Convolution of pictures as matrix products of small blocks, never of a whole unfolded picture.
//!
//! Axis key: pictures are channels-last, (y, x, c), because the products run along c; weights come as checkpoints
//! have them, (c_out, c_in, ky, kx).

mod reference; // what is meant
mod weights; // packed once, when a model is loaded
mod output; // bias, residual and rounding of finished sums
mod direct; // any stride and kernel; twofold nearest upsampling as four small kernels
mod winograd; // 3×3 kernels with 2.25 times fewer products
#[cfg(target_arch = "x86_64")]
mod pixels; // copied as tiles read them
#[cfg(target_arch = "x86_64")]
mod windows; // 3×3 kernels and upsampling by the definition, in the tiles of AMX

use crate::aligned::AlignedBuf;
use crate::level::Simd;
use crate::norm::Normalization;
use crate::panels::Panels;
use crate::threads::SharedPtr;
use crate::vector::{Number, Product};
use output::Output;

/// A unit of the packed weights of numbers T.
type Unit<T> = <<T as Number>::Product as Product>::Unit;

/// How a convolution walks over its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Channels of the input.
    pub c_in: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Height and width of the kernel, in pixels.
    pub kernel: usize,
    /// Distance between outputs, in pixels.
    pub stride: usize,
    /// Zeros above and to the left, in pixels.
    pub padding_before: usize,
    /// Zeros below and to the right, in pixels.
    pub padding_after: usize,
}

impl Geometry {
    /// The size of the output along an axis where the input has `size` pixels.
    pub fn output_size(&self, size: usize) -> usize {
        (size + self.padding_before + self.padding_after + 1)
            .saturating_sub(self.kernel)
            .div_ceil(self.stride)
    }

    fn keeps_size(&self, kernel: usize) -> bool {
        let padding = kernel / 2;
        self.kernel == kernel
            && self.stride == 1
            && (self.padding_before, self.padding_after) == (padding, padding)
    }
}

/// A convolution with packed weights.
#[derive(Debug, Clone)]
pub struct PackedConv2d<T: Number> {
    simd: Simd,
    geometry: Geometry,
    method: Method,
    panels: Panels,
    weights: AlignedBuf<Unit<T>>,
    /// Of each output channel, then zeros to the end of the last vector.
    bias: Vec<f32>,
}

/// How the products are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Direct,
    Winograd,
    /// Of a picture whose pixels are first doubled along both axes.
    Upsampling,
    /// In tiles, for kernels of 3×3 that keep the size of the picture.
    #[cfg(target_arch = "x86_64")]
    Windows,
    /// In tiles, of a picture whose pixels are first doubled along both axes.
    #[cfg(target_arch = "x86_64")]
    UpsamplingWindows,
}

impl Method {
    fn doubles(self) -> bool {
        match self {
            Self::Upsampling => true,
            #[cfg(target_arch = "x86_64")]
            Self::UpsamplingWindows => true,
            _ => false,
        }
    }
}

/// Channels from which the transforms of Winograd's method cost less than they save.
const WINOGRAD_CHANNELS: usize = 32;

impl<T: Number> PackedConv2d<T> {
    /// Packs `weight` (c_out, c_in, ky, kx) and `bias` (c_out).
    ///
    /// # Panics
    /// When the lengths disagree with the geometry.
    pub fn new(weight: &[T], bias: &[f32], geometry: Geometry) -> Self {
        let simd = Simd::active();
        Self::on(simd, weight, bias, geometry, Self::best_method(simd, geometry))
    }

    /// Packs a 3×3 convolution that keeps the size of the twice as large picture that nearest neighbours make of its
    /// input. Each output pixel sees two by two input pixels, so four ninths of the products remain.
    ///
    /// # Panics
    /// When the lengths disagree with the geometry, or it is another one.
    pub fn upsampling(weight: &[T], bias: &[f32], geometry: Geometry) -> Self {
        assert!(geometry.keeps_size(3), "{geometry:?} does not keep the size of the picture");
        let simd = Simd::active();
        #[cfg(target_arch = "x86_64")]
        if windows::are_for::<T>(simd) {
            return Self::on(simd, weight, bias, geometry, Method::UpsamplingWindows);
        }
        Self::on(simd, weight, bias, geometry, Method::Upsampling)
    }

    fn best_method(simd: Simd, geometry: Geometry) -> Method {
        let _ = simd;
        #[cfg(target_arch = "x86_64")]
        if windows::are_for::<T>(simd) && geometry.keeps_size(3) {
            return Method::Windows;
        }
        let is_wide = geometry.c_in.min(geometry.c_out) >= WINOGRAD_CHANNELS;
        let is_even = geometry.c_in.is_multiple_of(T::Product::DEPTH);
        if geometry.keeps_size(3) && is_wide && is_even { Method::Winograd } else { Method::Direct }
    }

    fn on(simd: Simd, weight: &[T], bias: &[f32], geometry: Geometry, method: Method) -> Self {
        let Geometry { c_in, c_out, kernel, stride, .. } = geometry;
        assert_eq!(weight.len(), c_out * c_in * kernel * kernel, "the weight of {geometry:?}");
        assert_eq!(bias.len(), c_out, "the bias of {geometry:?}");
        assert!(stride > 0 && kernel > 0 && c_in > 0 && c_out > 0, "{geometry:?} is empty");
        let mut bias = bias.to_vec();
        bias.resize(c_out.next_multiple_of(16), 0.0); // no level has wider vectors
        let weights = match method {
            Method::Direct => weights::pack_direct::<T>(simd, weight, geometry),
            Method::Winograd => weights::pack_winograd::<T>(simd, weight, geometry),
            Method::Upsampling => weights::pack_upsampling::<T>(simd, weight, geometry),
            #[cfg(target_arch = "x86_64")]
            Method::Windows => weights::pack_windows::<T>(weight, geometry),
            #[cfg(target_arch = "x86_64")]
            Method::UpsamplingWindows => weights::pack_upsampling_windows::<T>(weight, geometry),
        };
        let panels = weights::panels(simd, c_out);
        Self { simd, geometry, method, panels, weights, bias }
    }

    /// How it walks over its picture.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Height and width of the output for an input of `height` × `width`.
    pub fn output_size(&self, height: usize, width: usize) -> (usize, usize) {
        let doubled = if self.method.doubles() { 2 } else { 1 };
        let size = |input| self.geometry.output_size(doubled * input);
        (size(height), size(width))
    }

    /// out (y', x', c_out) = convolution of x (y, x, c_in), plus `residual` in the shape of the output; rounded once.
    ///
    /// # Panics
    /// When a length disagrees.
    pub fn forward(
        &self,
        x: &[T],
        (height, width): (usize, usize),
        residual: Option<&[T]>,
        out: &mut [T],
    ) {
        self.convolve(Picture { x, height, width, norm: None }, residual, out);
    }

    /// Whether [`forward_normalized`](Self::forward_normalized) can be called.
    pub fn normalizes(&self) -> bool {
        match self.method {
            #[cfg(target_arch = "x86_64")]
            Method::Windows => true,
            _ => false,
        }
    }

    /// [`forward`](Self::forward) of x normalised by `norm` and rounded, which is written nowhere.
    ///
    /// # Panics
    /// When a length disagrees, or it does not normalise.
    pub fn forward_normalized(
        &self,
        x: &[T],
        norm: &Normalization,
        (height, width): (usize, usize),
        residual: Option<&[T]>,
        out: &mut [T],
    ) {
        assert!(self.normalizes(), "{:?} does not normalise", self.method);
        assert_eq!(norm.channels(), self.geometry.c_in, "a norm of as many channels");
        self.convolve(Picture { x, height, width, norm: Some(norm) }, residual, out);
    }

    fn convolve(&self, picture: Picture<'_, T>, residual: Option<&[T]>, out: &mut [T]) {
        let Picture { x, height, width, .. } = picture;
        let Geometry { c_in, c_out, .. } = self.geometry;
        let (out_height, out_width) = self.output_size(height, width);
        let out_len = out_height * out_width * c_out;
        assert_eq!(x.len(), height * width * c_in, "a picture of {height} × {width} × {c_in}");
        assert_eq!(out.len(), out_len, "a result of {out_height} × {out_width} × {c_out}");
        assert!(residual.is_none_or(|residual| residual.len() == out_len), "a residual like it");
        let output = Output { bias: &self.bias, residual, c_out, out: SharedPtr::new(out) };
        match self.method {
            Method::Winograd => winograd::forward(self, picture, &output),
            Method::Direct => direct::forward(self, picture, (out_height, out_width), &output),
            Method::Upsampling => direct::forward_upsampling(self, picture, &output),
            #[cfg(target_arch = "x86_64")]
            Method::Windows | Method::UpsamplingWindows => {
                windows::forward(self, picture, &output);
            }
        }
    }
}

/// The input, (y, x, c).
struct Picture<'a, T> {
    x: &'a [T],
    height: usize,
    width: usize,
    /// What is done with its numbers before they are multiplied, where the method does that.
    norm: Option<&'a Normalization>,
}

impl<T> Clone for Picture<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Picture<'_, T> {}

impl<T> Picture<'_, T> {
    /// The channels of pixel (y, x), if that lies within the picture.
    #[inline(always)]
    fn pixel(&self, y: isize, x: isize, channels: usize) -> Option<*const T> {
        let is_inside =
            (0..self.height as isize).contains(&y) && (0..self.width as isize).contains(&x);
        let index = (y as usize).wrapping_mul(self.width).wrapping_add(x as usize);
        is_inside.then(|| self.x[index * channels..][..channels].as_ptr())
    }
}

#[cfg(test)]
mod tests; // every level against the plain loops
