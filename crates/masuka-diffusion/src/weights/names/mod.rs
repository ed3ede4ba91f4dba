//! How other projects spell the modules of our models: tables of patterns, read by checkpoints and by LoRA files alike.
//!
//! A pattern is a dotted name in which `{}` stands for a number. A rule says what the parameters of such a module are
//! in our (diffusers') names, and what of them belongs to each: all, some rows, or the two halves the other way round.

pub mod flux_bfl; // the FLUX.1 transformer, as Black Forest Labs name it
pub mod autoencoder_bfl; // the autoencoder, as Black Forest Labs and Stability name it
pub mod t5_llama_cpp; // T5 in GGUF, as llama.cpp names it

use std::ops::Range;

/// One kind of module.
pub struct Rule {
    /// The other project's name.
    pub theirs: &'static str,
    /// Our names; several when the module holds several of ours.
    pub ours: &'static [&'static str],
    /// What of it belongs to each of ours.
    pub how: How,
}

/// What of a module's rows belongs to each of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// All.
    Same,
    /// Consecutive rows in these proportions.
    Rows(&'static [usize]),
    /// All, but its second half is our first.
    SwapHalves,
    /// All; a 1×1 convolution there is a linear layer here.
    Pointwise,
}

/// The spelling of one project for one model.
pub struct Names {
    /// The first rule that fits counts. In our names, `{}` is the number of the same place, and `{^}` counts from the
    /// last to the first.
    pub rules: &'static [Rule],
    /// Parameters that are not called alike.
    pub parameters: &'static [Parameter],
}

/// A parameter that is not called alike.
pub struct Parameter {
    /// The end of the names of their modules that have it.
    pub of: &'static str,
    /// Their name of it.
    pub theirs: &'static str,
    /// Our name of it.
    pub ours: &'static str,
}

/// What of a stored tensor is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// All.
    Whole,
    /// Of `of` equal shares of its rows those from `first` to `last`, the latter left out.
    Rows {
        /// The first share.
        first: usize,
        /// The share after the last.
        last: usize,
        /// How many shares there are.
        of: usize,
    },
    /// The second half of its rows, then the first.
    SwappedHalves,
    /// All, without its axes of length 1 at the end.
    Pointwise,
}

impl Take {
    /// The rows that are taken of `rows`, in this order.
    pub fn ranges(self, rows: usize) -> Vec<Range<usize>> {
        let (first, second) = match self {
            Self::Whole | Self::Pointwise => (0..rows, None),
            Self::Rows { first, last, of } => (rows * first / of..rows * last / of, None),
            Self::SwappedHalves => (rows / 2..rows, Some(0..rows / 2)),
        };
        std::iter::once(first).chain(second).collect()
    }

    /// The shape of what is taken of a tensor of shape `stored`.
    pub fn shape(self, stored: &[usize]) -> Vec<usize> {
        let mut shape = stored.to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = self.ranges(*rows).iter().map(ExactSizeIterator::len).sum();
        }
        if self == Self::Pointwise && stored.len() == 4 && stored.ends_with(&[1, 1]) {
            shape.truncate(2);
        }
        shape
    }

    /// The shape that a stored tensor must have for this to take `shape` of it.
    pub fn stored_shape(self, shape: &[usize]) -> Vec<usize> {
        let mut stored = shape.to_vec();
        match (self, stored.first_mut()) {
            (Self::Rows { first, last, of }, Some(rows)) => *rows = *rows * of / (last - first),
            (Self::Pointwise, _) if shape.len() == 2 => stored.extend([1, 1]),
            _ => {}
        }
        stored
    }
}

/// A tensor of ours within one of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// Our name.
    pub name: String,
    /// What of theirs it is.
    pub take: Take,
}

impl Names {
    /// Our tensors that lie in their tensor `name`; none if no rule knows it. `levels` is the number that `{^}`
    /// counts down from.
    pub fn translate(&self, name: &str, levels: usize) -> Vec<Translated> {
        let Some((module, parameter)) = name.rsplit_once('.') else { return Vec::new() };
        let known =
            self.parameters.iter().find(|p| p.theirs == parameter && module.ends_with(p.of));
        let parameter = known.map_or(parameter, |known| known.ours);
        let translated = |(name, take)| Translated { name: format!("{name}.{parameter}"), take };
        self.translate_module(module, levels).into_iter().map(translated).collect()
    }

    /// Our modules that their module `name` holds, and what of it; none if no rule knows it.
    pub fn translate_module(&self, name: &str, levels: usize) -> Vec<(String, Take)> {
        let find = |rule: &Rule| Some((rule.how, rule.ours, numbers(rule.theirs, name)?));
        let Some((how, ours, numbers)) = self.rules.iter().find_map(find) else {
            return Vec::new();
        };
        let names = ours.iter().map(|pattern| filled(pattern, &numbers, levels));
        names.zip(takes(how)).collect()
    }

    /// Their tensor that holds our tensor `name`, and what of it that is.
    pub fn spell(&self, name: &str, levels: usize) -> Option<(String, Take)> {
        let (module, parameter) = name.rsplit_once('.')?;
        let (module, take) = self.rules.iter().find_map(|rule| {
            let find = |pattern: &&str| numbers(&pattern.replace("{^}", "{}"), module);
            let (place, numbers) =
                rule.ours.iter().enumerate().find_map(|(i, p)| Some((i, find(p)?)))?;
            let theirs = if rule.ours[place].contains("{^}") {
                rule.theirs.replacen("{}", "{^}", 1)
            } else {
                rule.theirs.to_owned()
            };
            Some((filled(&theirs, &numbers, levels), takes(rule.how)[place]))
        })?;
        let known = self.parameters.iter().find(|p| p.ours == parameter && module.ends_with(p.of));
        let parameter = known.map_or(parameter, |known| known.theirs);
        Some((format!("{module}.{parameter}"), take))
    }

    /// How many levels `names` have: one more than the highest number for which our names hold `{^}`.
    pub fn levels<'a>(&self, names: impl Iterator<Item = &'a str>) -> usize {
        let reversed: Vec<&Rule> =
            self.rules.iter().filter(|rule| rule.ours[0].contains("{^}")).collect();
        let level = |name: &str| {
            let (module, _) = name.rsplit_once('.')?;
            let found = reversed.iter().find_map(|rule| numbers(rule.theirs, module))?;
            found.first().map(|level| level + 1)
        };
        names.filter_map(level).max().unwrap_or(0)
    }
}

/// What each of our modules takes.
fn takes(how: How) -> Vec<Take> {
    match how {
        How::Same => vec![Take::Whole],
        How::SwapHalves => vec![Take::SwappedHalves],
        How::Pointwise => vec![Take::Pointwise],
        How::Rows(shares) => {
            let of = shares.iter().sum();
            let mut last = 0;
            let take = |share: &usize| {
                let first = last;
                last += share;
                Take::Rows { first, last, of }
            };
            shares.iter().map(take).collect()
        }
    }
}

/// The numbers of `name`, if it fits `pattern`.
fn numbers(pattern: &str, name: &str) -> Option<Vec<usize>> {
    let (mut parts, mut numbers) = (name.split('.'), Vec::new());
    for wanted in pattern.split('.') {
        let part = parts.next()?;
        match wanted {
            "{}" => numbers.push(part.parse().ok()?),
            wanted if wanted == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(numbers)
}

/// `pattern` with its numbers.
fn filled(pattern: &str, numbers: &[usize], levels: usize) -> String {
    let mut numbers = numbers.iter();
    let mut number = || numbers.next().copied().unwrap_or_default();
    let parts = pattern.split('.').map(|part| match part {
        "{}" => number().to_string(),
        "{^}" => (levels.saturating_sub(1).saturating_sub(number())).to_string(),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Names = Names {
        rules: &[
            Rule { theirs: "a.{}.qk", ours: &["b.{}.q", "b.{}.k"], how: How::Rows(&[1, 2]) },
            Rule { theirs: "up.{}.x.{}", ours: &["u.{^}.y.{}"], how: How::Same },
            Rule { theirs: "n_norm", ours: &["m"], how: How::Same },
        ],
        parameters: &[Parameter { of: "_norm", theirs: "scale", ours: "weight" }],
    };

    #[test]
    fn a_joined_module_is_shared_out_by_rows() {
        let take = |first, last| Take::Rows { first, last, of: 3 };
        let q = Translated { name: "b.7.q.weight".into(), take: take(0, 1) };
        let k = Translated { name: "b.7.k.weight".into(), take: take(1, 3) };
        assert_eq!(TABLE.translate("a.7.qk.weight", 0), [q, k]);
        assert_eq!(take(1, 3).ranges(9).first(), Some(&(3..9)));
        assert_eq!(take(1, 3).shape(&[9, 5]), [6, 5]);
        assert_eq!(take(1, 3).stored_shape(&[6, 5]), [9, 5]);
    }

    #[test]
    fn levels_may_be_counted_from_the_other_end() {
        let names = ["up.0.x.0.bias", "up.3.x.1.bias", "other.9.x.1.bias"];
        assert_eq!(TABLE.levels(names.into_iter()), 4);
        assert_eq!(TABLE.translate("up.3.x.1.bias", 4)[0].name, "u.0.y.1.bias");
        assert_eq!(TABLE.spell("u.0.y.1.bias", 4), Some(("up.3.x.1.bias".into(), Take::Whole)));
    }

    #[test]
    fn what_no_rule_knows_has_no_translation() {
        for name in ["a.qk.weight", "a.x.qk.weight", "a.1.qk.weight.more.x", "qk"] {
            assert_eq!(TABLE.translate(name, 0), [], "{name}");
        }
        assert_eq!(TABLE.spell("m.weight", 0), Some(("n_norm.scale".into(), Take::Whole)));
    }

    #[test]
    fn halves_change_places_and_points_become_matrices() {
        assert_eq!(Take::SwappedHalves.ranges(6), [3..6, 0..3]);
        assert_eq!(Take::Pointwise.shape(&[8, 4, 1, 1]), [8, 4]);
        assert_eq!(Take::Pointwise.shape(&[8]), [8]);
        assert_eq!(Take::Pointwise.stored_shape(&[8, 4]), [8, 4, 1, 1]);
    }
}
