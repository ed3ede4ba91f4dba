//! Transcendental functions of vectors. Errors are relative unless said otherwise, and were measured over 2²⁰ points.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use super::Vectors;

/// 2ᶠ for |f| ≤ ½ by its best polynomials (fitted to the smallest relative error: 7.5e-8 and 7.5e-5).
const EXP2: [f32; 6] =
    [1.0, 0.693_146_97, 0.240_221_2, 0.055_507_133, 0.009_675_541, 0.001_327_647_2];
const EXP2_COARSE: [f32; 4] = [0.999_928_1, 0.693_261, 0.242_611_13, 0.055_171_67];
/// 2ᶠ for 0 ≤ f < 1, fitted in the same way: 7.5e-5.
#[cfg(target_arch = "x86_64")]
pub(super) const EXP2_ABOVE_FLOOR: [f32; 4] =
    [0.999_925_2, 0.695_833_56, 0.226_067_16, 0.078_024_52];

/// Abramowitz and Stegun, 7.1.26: erf(x) = 1 - (a₁t + … + a₅t⁵)·exp(-x²) with t = 1/(1 + px), x ≥ 0.
const ERF_P: f32 = 0.327_591_1;
const ERF: [f32; 6] = [0.0, 0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];

/// Functions that every level has alike.
pub trait Math: Vectors {
    /// 2ˣ to 2e-7; 0 at the floor and below, infinite from 128 on.
    #[inline(always)]
    fn exp2(self, x: Self::F32) -> Self::F32 {
        exp2(self, x, &EXP2)
    }

    /// eˣ, to 2e-7 where |x| < 1, and to the error of x · log₂e beyond.
    #[inline(always)]
    fn exp(self, x: Self::F32) -> Self::F32 {
        self.exp2(self.mul(x, self.splat(LOG2_E)))
    }

    /// 1 / (1 + e⁻ˣ)
    #[inline(always)]
    fn sigmoid(self, x: Self::F32) -> Self::F32 {
        let one = self.splat(1.0);
        let inverse = self.exp2(self.mul(x, self.splat(-LOG2_E)));
        self.div(one, self.add(one, inverse))
    }

    /// 1 / (1 + e⁻ˣ) to 2e-4, a tenth of what rounding to bf16 costs.
    #[inline(always)]
    fn sigmoid_coarse(self, x: Self::F32) -> Self::F32 {
        let inverse = self.exp2_coarse(self.mul(x, self.splat(-LOG2_E)));
        self.reciprocal_coarse(self.add(self.splat(1.0), inverse))
    }

    /// The error function, to 3e-7 absolute.
    #[inline(always)]
    fn erf(self, x: Self::F32) -> Self::F32 {
        let one = self.splat(1.0);
        let magnitude = self.copy_sign(x, one);
        let t = self.div(one, self.mul_add(magnitude, self.splat(ERF_P), one));
        let falling = self.exp(self.mul(self.mul(x, x), self.splat(-1.0)));
        let rest = self.mul(polynomial(self, t, &ERF), falling);
        self.copy_sign(self.sub(one, rest), x)
    }

    /// The normal distribution's share below x: (1 + erf(x/√2)) / 2.
    #[inline(always)]
    fn normal_cdf(self, x: Self::F32) -> Self::F32 {
        let half = self.splat(0.5);
        self.mul_add(self.erf(self.mul(x, self.splat(FRAC_1_SQRT_2))), half, half)
    }
}

impl<V: Vectors> Math for V {}

/// As [`Vectors::exp2_coarse`] says.
#[inline(always)]
pub(super) fn exp2_coarse<V: Vectors>(v: V, x: V::F32) -> V::F32 {
    exp2(v, x, &EXP2_COARSE)
}

#[inline(always)]
fn exp2<V: Vectors>(v: V, x: V::F32, coefficients: &[f32]) -> V::F32 {
    let x = v.min(v.splat(128.0), v.max(v.splat(V::EXP2_FLOOR), x));
    let n = v.round(x);
    v.scale_by_power(polynomial(v, v.sub(x, n), coefficients), n)
}

/// c₀ + c₁x + c₂x² + …
#[inline(always)]
pub(super) fn polynomial<V: Vectors>(v: V, x: V::F32, coefficients: &[f32]) -> V::F32 {
    let mut y = v.splat(coefficients[coefficients.len() - 1]);
    for &c in coefficients[..coefficients.len() - 1].iter().rev() {
        y = v.mul_add(y, x, v.splat(c));
    }
    y
}
