//! Uniform numbers to normal ones (Box and Muller, 1958), with the roundings of PyTorch 2.15: `NormalFill16` of
//! `ATen/native/cpu/DistributionTemplates.h` over the Cephes functions of `avx_mathfun.h`.
//!
//! Their source has no fused products, but GCC contracts products and sums where it can, so the bits of PyTorch's
//! packages are those of the `mul_add` here, in this order.

/// Numbers that PyTorch transforms together.
pub(super) const BLOCK: usize = 16;

/// Turns each block of uniform numbers, all of 0…1 without 1, into a block of normal ones.
pub(super) fn transform(blocks: &mut [[f32; BLOCK]]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features.
        unsafe { transform_avx2(blocks) };
        return;
    }
    transform_portable(blocks);
}

/// The same operations with fused products of the processor instead of the C library's: same bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn transform_avx2(blocks: &mut [[f32; BLOCK]]) {
    transform_portable(blocks);
}

#[inline(always)]
fn transform_portable(blocks: &mut [[f32; BLOCK]]) {
    const HALF: usize = BLOCK / 2;
    for block in blocks {
        for j in 0..HALF {
            let radius = (-2.0 * ln(1.0 - block[j])).sqrt();
            let (sin, cos) = sin_cos(std::f32::consts::TAU * block[j + HALF]);
            // The mean is added, 0: it makes a negative zero positive.
            block[j] = radius * cos + 0.0;
            block[j + HALF] = radius * sin + 0.0;
        }
    }
}

/// The two normal numbers of two uniform ones, as draws shorter than a block take them.
pub(super) fn pair(u1: f64, u2: f64) -> (f64, f64) {
    let radius = (-2.0 * (-u2).ln_1p()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * u1).sin_cos();
    (radius * cos, radius * sin)
}

/// The natural logarithm of a normal number above 0.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const POLYNOMIAL: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_84e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        0.333_333_3,
    ];
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const LN_2_HIGH: f32 = 355.0 / 512.0;

    // x = 2^exponent · (1 + m) with 1 + m of √½…√2.
    let mantissa = f32::from_bits(x.to_bits() & 0x007f_ffff | 0.5f32.to_bits()); // ½…1
    let exponent = ((x.to_bits() >> 23) as i32 - 127) as f32 + 1.0;
    let small = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let exponent = exponent - if small { 1.0 } else { 0.0 };
    let m = (mantissa - 1.0) + if small { mantissa } else { 0.0 };

    let square = m * m;
    let mut y = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        y = y.mul_add(m, *coefficient);
    }
    y = square.mul_add(y * m, exponent * LN_2_LOW);
    y = (-square).mul_add(0.5, y);
    exponent.mul_add(LN_2_HIGH, m + y)
}

/// Sine and cosine of an angle of 0…2π.
#[inline(always)]
fn sin_cos(angle: f32) -> (f32, f32) {
    /// -π/4, in three parts: products with a small integer are exact.
    const MINUS_PI_4: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];
    const SINE: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
    const COSINE: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];

    let octant = (angle * (4.0 / std::f32::consts::PI)) as i32;
    let octant = (octant + 1) & !1; // the even one that is nearest
    let mut x = angle;
    for part in MINUS_PI_4 {
        x = (octant as f32).mul_add(part, x); // -π/4…π/4
    }
    let z = x * x;
    let cosine = COSINE[0].mul_add(z, COSINE[1]).mul_add(z, COSINE[2]);
    let cosine = z.mul_add(z * cosine, -(z * 0.5)) + 1.0;
    let sine = SINE[0].mul_add(z, SINE[1]).mul_add(z, SINE[2]);
    let sine = (z * sine).mul_add(x, x);

    let (sin, cos) = if octant & 2 == 0 { (sine, cosine) } else { (cosine, sine) };
    let sin_sign = ((octant & 4) as u32) << 29;
    let cos_sign = ((!(octant - 2) & 4) as u32) << 29;
    (f32::from_bits(sin.to_bits() ^ sin_sign), f32::from_bits(cos.to_bits() ^ cos_sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform numbers of 24 bits, spread over the whole range, its ends included.
    fn uniform_blocks() -> Vec<[f32; BLOCK]> {
        let number = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
        let mut blocks: Vec<[f32; BLOCK]> = (0..4096)
            .map(|block| std::array::from_fn(|j| number(block * BLOCK as u32 + j as u32)))
            .collect();
        let largest = 1.0 - 2f32.powi(-24);
        blocks.push([0.0; BLOCK]);
        blocks.push([largest; BLOCK]);
        blocks
    }

    #[test]
    fn every_level_of_processor_gives_the_same_bits() {
        let (mut dispatched, mut portable) = (uniform_blocks(), uniform_blocks());
        transform(&mut dispatched);
        transform_portable(&mut portable);
        let bits =
            |blocks: &[[f32; BLOCK]]| blocks.concat().into_iter().map(f32::to_bits).collect();
        let (dispatched, portable): (Vec<u32>, Vec<u32>) = (bits(&dispatched), bits(&portable));
        assert_eq!(dispatched, portable);
    }

    #[test]
    fn the_approximations_are_close_to_the_functions() {
        for block in uniform_blocks() {
            for u in block {
                let (x, angle) = (1.0 - u, std::f32::consts::TAU * u);
                let (sin, cos) = sin_cos(angle);
                let exact = f64::from(angle);
                assert!((f64::from(ln(x)) - f64::from(x).ln()).abs() < 2e-6, "ln {x}");
                assert!((f64::from(sin) - exact.sin()).abs() < 2e-7, "sin {angle}");
                assert!((f64::from(cos) - exact.cos()).abs() < 2e-7, "cos {angle}");
            }
        }
    }
}
