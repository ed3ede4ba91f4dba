//! Our side of `just bench` for training: computes one row, once for every line on stdin. `bench/compare.py` runs it
//! beside the reference, turn by turn. The twin of every row lies in `bench/rows/`.
//!
//! `bench_training ROW VARIANT OUTPUT` answers as the bench of masuka-diffusion does: `ready SECONDS LEVEL`, then for each
//! line the seconds that the repetition took. OUTPUT holds the first repetition's gradients in little-endian f32.

mod train_step; // one step of an adapter of all linear layers

use std::error::Error;
use std::io::{self, Write};
use std::time::Instant;

use masuka_kernels::{Simd, set_level_limit};

fn main() -> Result<(), Box<dyn Error>> {
    masuka_kernels::memory::keep_freed_pages();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [row, variant, output] = arguments.as_slice() else {
        return Err("usage: bench_training ROW VARIANT OUTPUT".into());
    };
    if let Ok(level) = std::env::var("MASUKA_CPU_LEVEL") {
        set_level_limit(level.parse()?);
    }
    let start = Instant::now();
    let mut run = train_step::open(row, variant)?;
    answer(&format!("ready {} {}", start.elapsed().as_secs_f64(), Simd::active().level()))?;
    for (repetition, line) in io::stdin().lines().enumerate() {
        line?;
        let start = Instant::now();
        let gradients = run()?;
        let seconds = start.elapsed().as_secs_f64();
        if repetition == 0 {
            let mut bytes = Vec::new();
            for gradient in gradients.tensors() {
                let numbers: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
                bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            std::fs::write(output, bytes)?;
        }
        answer(&seconds.to_string())?;
    }
    Ok(())
}

fn answer(text: &str) -> io::Result<()> {
    println!("{text}");
    io::stdout().flush()
}
