//! Our side of `just bench`: computes one row, once for every line on stdin. `bench/compare.py` runs it beside the
//! reference, turn by turn. A row is a file of `rows/`; its twin in `bench/rows/` computes the same.
//!
//! `bench ROW VARIANT OUTPUT` answers `ready SECONDS LEVEL` when the row is loaded, then for each line the seconds that
//! the repetition took. OUTPUT holds the first repetition's values in little-endian f32, for comparison. LEVEL is that of
//! the kernels, which `MASUKA_CPU_LEVEL` may hold down.

mod rows; // what is measured

use std::error::Error;
use std::io::{self, Write};
use std::time::Instant;

use masuka_kernels::{Simd, set_level_limit};

fn main() -> Result<(), Box<dyn Error>> {
    masuka_kernels::memory::keep_freed_pages();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [row, variant, output] = arguments.as_slice() else {
        return Err("usage: bench ROW VARIANT OUTPUT".into());
    };
    if let Ok(level) = std::env::var("MASUKA_CPU_LEVEL") {
        set_level_limit(level.parse()?);
    }
    let start = Instant::now();
    let mut run = rows::open(row, variant)?;
    answer(&format!("ready {} {}", start.elapsed().as_secs_f64(), Simd::active().level()))?;
    for (repetition, line) in io::stdin().lines().enumerate() {
        line?;
        let start = Instant::now();
        let values = run(repetition)?;
        let seconds = start.elapsed().as_secs_f64();
        if repetition == 0 {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
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
