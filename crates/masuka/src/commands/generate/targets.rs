//! Where the pictures go. What cannot be written is refused before a model is loaded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use masuka_diffusion::noise::Seed;

use crate::exit::Usage;

/// The names of a request's pictures.
#[derive(Debug)]
pub struct Targets {
    /// The name of `-o`, if there is one.
    named: Option<PathBuf>,
    count: usize,
}

impl Targets {
    /// Checks the name of `-o` for `count` pictures.
    pub fn new(output: Option<&Path>, count: usize) -> anyhow::Result<Self> {
        let targets = Self { named: output.map(Path::to_owned), count };
        if let Some(output) = output {
            if !output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
                let message = format!("`{}` must end in .png", output.display());
                return Err(Usage(message).into());
            }
            for path in (0..count).map(|index| targets.numbered(output, index)) {
                refuse_folder(&path)?;
            }
            output
                .ancestors()
                .skip(1)
                .find(|folder| folder.exists())
                .map_or(Ok(()), check_folder)?;
        }
        Ok(targets)
    }

    /// The file of picture `index`. Names that nobody chose never replace a file.
    pub fn path(&self, index: usize, seed: Seed) -> PathBuf {
        if let Some(output) = &self.named {
            return self.numbered(output, index);
        }
        let name = format!("masuka-{}", seed.value());
        let mut path = PathBuf::from(format!("{name}.png"));
        let mut number = 2;
        while path.exists() {
            path = PathBuf::from(format!("{name}-{number}.png"));
            number += 1;
        }
        path
    }

    /// `out.png` for a single picture, else `out-1.png`, `out-2.png`…
    fn numbered(&self, output: &Path, index: usize) -> PathBuf {
        if self.count == 1 {
            return output.to_owned();
        }
        let mut name = OsString::from(output.file_stem().unwrap_or_default());
        name.push(format!("-{}.", index + 1));
        name.push(output.extension().unwrap_or_default());
        output.with_file_name(name)
    }
}

fn refuse_folder(path: &Path) -> Result<(), Usage> {
    if path.is_dir() {
        return Err(Usage(format!("`{}` is a folder; name a file in it", path.display())));
    }
    Ok(())
}

fn check_folder(folder: &Path) -> Result<(), Usage> {
    if !folder.as_os_str().is_empty() && !folder.is_dir() {
        return Err(Usage(format!("`{}` is not a folder", folder.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(output: &str, count: usize) -> Vec<String> {
        let targets = Targets::new(Some(Path::new(output)), count).unwrap();
        let seed = Seed::new(7).unwrap();
        (0..count).map(|index| targets.path(index, seed).display().to_string()).collect()
    }

    #[test]
    fn several_pictures_are_numbered() {
        assert_eq!(names("a/out.png", 1), ["a/out.png"]);
        assert_eq!(names("a/out.v2.PNG", 2), ["a/out.v2-1.PNG", "a/out.v2-2.PNG"]);
    }

    #[test]
    fn only_files_that_end_in_png_are_written() {
        for output in ["out.jpg", "out", "png", ".png", "dir/"] {
            assert!(Targets::new(Some(Path::new(output)), 1).is_err(), "{output}");
        }
    }
}
