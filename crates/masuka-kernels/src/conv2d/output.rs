//! What happens to finished sums: bias and residual are added, the result is rounded and written.

use crate::threads::SharedPtr;
use crate::vector::{Number, Vectors};

/// Where sums go.
pub(super) struct Output<'a, T> {
    /// (c_out), readable to the end of the last vector.
    pub bias: &'a [f32],
    /// (y', x', c_out)
    pub residual: Option<&'a [T]>,
    pub c_out: usize,
    /// (y', x', c_out)
    pub out: SharedPtr<T>,
}

impl<T: Number> Output<'_, T> {
    /// Finishes the channels from `channel` of one pixel of the output, counted row by row.
    ///
    /// # Safety
    /// Pixel and channel must exist, and nobody else write them.
    #[inline(always)]
    pub unsafe fn finish<V: Vectors>(&self, v: V, pixel: usize, channel: usize, sum: V::F32) {
        let left = self.c_out - channel;
        let at = pixel * self.c_out + channel;
        // SAFETY: the caller's promise; a bias is readable to the end of the last vector.
        unsafe {
            let mut y = v.add(sum, v.load(self.bias.as_ptr().add(channel)));
            if let Some(residual) = self.residual {
                y = v.add(y, T::load_up_to(v, residual.as_ptr().add(at), left));
            }
            T::store_up_to(v, self.out.at(at), y, left);
        }
    }

    /// [`finish`](Self::finish) of two vectors beside each other.
    ///
    /// # Safety
    /// As said there; the second vector may lie behind the last channel.
    #[inline(always)]
    pub unsafe fn finish_two<V: Vectors>(
        &self,
        v: V,
        pixel: usize,
        channel: usize,
        sums: [V::F32; 2],
    ) {
        let at = pixel * self.c_out + channel;
        // SAFETY: the caller's promise; a bias is readable to the end of the last vector.
        unsafe {
            if self.c_out - channel < 2 * V::LANES {
                self.finish(v, pixel, channel, sums[0]);
                self.finish(v, pixel, channel + V::LANES, sums[1]);
                return;
            }
            let bias = self.bias.as_ptr().add(channel);
            let mut y = [v.add(sums[0], v.load(bias)), v.add(sums[1], v.load(bias.add(V::LANES)))];
            if let Some(residual) = self.residual {
                let residual = residual.as_ptr().add(at);
                y = [
                    v.add(y[0], T::load(v, residual)),
                    v.add(y[1], T::load(v, residual.add(V::LANES))),
                ];
            }
            T::store_two(v, self.out.at(at), y);
        }
    }
}
