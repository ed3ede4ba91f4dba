//! What decoding and encoding take, before any weight is loaded. A walk over the same blocks as the decoder's and the
//! encoder's, counting what exists at once; `tests/flux_shaped.rs` and `tests/pipeline_memory.rs` hold it against the
//! process's peak.

use candle_core::{DType, Device};

use super::bands::Tiling;
use super::config::AutoencoderKlConfig;

/// Copies of a band of a convolution or norm, and what the allocator keeps.
const WORKSPACE: usize = 192 << 20;

/// Scores of attention as products, weights and weights again; the processor's kernel keeps none.
const ATTENTION_SCORES: usize = 4 * (64 << 20);

impl AutoencoderKlConfig {
    /// Bytes that decoding one picture of (height, width) pixels takes at its peak, beside the weights.
    pub fn decode_peak_bytes(
        &self,
        (height, width): (usize, usize),
        dtype: DType,
        device: &Device,
        tiling: Tiling,
    ) -> usize {
        let levels = self.block_out_channels.len();
        let (latent_height, latent_width) = (height >> (levels - 1), width >> (levels - 1));
        let mut walk = Footprint::new((latent_height, latent_width), dtype, device, tiling);
        let channels: Vec<usize> = self.block_out_channels.iter().rev().copied().collect();
        walk.mid_block(self, channels[0]);
        let mut c_in = channels[0];
        for (level, &c_out) in channels.iter().enumerate() {
            if level == 0 {
                walk.resnet(c_in, c_out, 0);
            } else {
                let stored = walk.tensor(c_in);
                walk.resize(2 * walk.height, 2 * walk.width);
                walk.upsampled_resnet(c_in, c_out, stored);
            }
            walk.resnet(c_out, c_out, 0);
            c_in = c_out;
        }
        walk.head(c_in);
        walk.peak + WORKSPACE + 2 * self.out_channels * height * width * size_of::<f32>()
    }

    /// Bytes that encoding one picture of (height, width) pixels takes at its peak, beside the weights.
    pub fn encode_peak_bytes(
        &self,
        (height, width): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> usize {
        let channels = &self.block_out_channels;
        let mut walk = Footprint::new((height, width), dtype, device, Tiling::Whole);
        let mut c_in = channels[0];
        for (level, &c_out) in channels.iter().enumerate() {
            walk.resnet(c_in, c_out, 0);
            walk.resnet(c_out, c_out, 0);
            if level + 1 < channels.len() {
                let stored = walk.tensor(c_out);
                walk.resize(walk.height / 2, walk.width / 2);
                walk.holds(stored + walk.tensor(c_out));
            }
            c_in = c_out;
        }
        walk.mid_block(self, c_in);
        walk.head(c_in);
        walk.peak + 2 * self.in_channels * height * width * size_of::<f32>()
    }
}

/// The largest that the tensors of a walk have been together, in bytes.
struct Footprint {
    height: usize,
    width: usize,
    dtype: DType,
    tiling: Tiling,
    /// Of attention.
    scores: usize,
    peak: usize,
}

impl Footprint {
    fn new((height, width): (usize, usize), dtype: DType, device: &Device, tiling: Tiling) -> Self {
        let scores = if device.is_cpu() { 0 } else { ATTENTION_SCORES };
        Self { height, width, dtype, tiling, scores, peak: 0 }
    }

    fn resize(&mut self, height: usize, width: usize) {
        (self.height, self.width) = (height, width);
    }

    fn holds(&mut self, bytes: usize) {
        self.peak = self.peak.max(bytes);
    }

    /// A picture of `c` channels at the resolution where the walk stands.
    fn tensor(&self, c: usize) -> usize {
        c * self.height * self.width * self.dtype.size_in_bytes()
    }

    /// What one band of `c` channels takes, if the picture does not pass at once.
    fn band(&self, c: usize) -> Option<usize> {
        self.tiling.band_bytes(self.height, c * self.width * size_of::<f32>())
    }

    /// A block whose input lies in memory, beside `stored` bytes.
    fn resnet(&mut self, c_in: usize, c_out: usize, stored: usize) {
        let (x, y) = (self.tensor(c_in), self.tensor(c_out));
        self.holds(match self.band(c_in.max(c_out)) {
            Some(band) if c_in == c_out => stored + x + band,
            Some(band) => stored + x + y + band,
            // The input, and: its norm and the hidden picture; or the hidden picture, its norm and one more.
            None => stored + x + (x + y).max(if c_in == c_out { 2 * y } else { 3 * y }),
        });
    }

    /// A block whose input is made from `stored` bytes of half the resolution.
    fn upsampled_resnet(&mut self, c_in: usize, c_out: usize, stored: usize) {
        match self.band(c_in.max(c_out)) {
            Some(band) => self.holds(stored + self.tensor(c_out) + band),
            None => self.resnet(c_in, c_out, stored),
        }
    }

    fn mid_block(&mut self, config: &AutoencoderKlConfig, c: usize) {
        self.resnet(c, c, 0);
        if config.mid_block_add_attention {
            // Input, tokens, queries, keys, values, transposed keys and the answer, widened to f32.
            let widened = c * self.height * self.width * size_of::<f32>();
            self.holds(self.tensor(c) + 8 * widened + self.scores);
        }
    }

    fn head(&mut self, c: usize) {
        let x = self.tensor(c);
        self.holds(x + self.band(c).unwrap_or(x));
    }
}
