//! Which tensors of a file decide how large an update is, so that a wrong size is told by their names.

use crate::weights::names::Take;

/// Where the shape of an update comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The tensor whose axis runs along the outputs.
    pub rows: Side,
    /// The tensor whose axis runs along the inputs; may be the same.
    pub columns: Side,
    /// Which of the module's rows are the layer's.
    pub take: Take,
}

/// One axis of a tensor of the file.
#[derive(Debug, Clone)]
pub struct Side {
    /// The tensor's name.
    pub tensor: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The axis.
    pub axis: usize,
    /// How often the weight repeats it: LoKr multiplies two factors, elsewhere it is 1.
    pub times: usize,
}

impl Origin {
    /// Says which tensor makes an update (out, in) of `found` where the layer is `expected`, and the shape that would
    /// fit. The inputs' side is looked at first, as in the order of names: `lora_A` before `lora_B`.
    pub(super) fn misfit(&self, found: (usize, usize), expected: (usize, usize)) -> String {
        let stored = self.take.stored_shape(&[expected.0])[0];
        let offending = if found.1 == expected.1 { &self.rows } else { &self.columns };
        let mut wanted = Some(offending.shape.clone());
        let sides = [
            (&self.rows, found.0 != expected.0, stored),
            (&self.columns, found.1 != expected.1, expected.1),
        ];
        for (side, is_wrong, size) in sides {
            if is_wrong && side.tensor == offending.tensor {
                wanted = wanted.and_then(|shape| side.fitting(shape, size));
            }
        }
        let Side { tensor, shape, .. } = offending;
        match wanted {
            Some(wanted) => format!("`{tensor}` has shape {shape:?} where {wanted:?} would fit"),
            None => format!("`{tensor}` has shape {shape:?}, no shape of it would fit"),
        }
    }
}

impl Side {
    /// `shape` with the axis as long as a weight of `size` wants it.
    fn fitting(&self, mut shape: Vec<usize>, size: usize) -> Option<Vec<usize>> {
        *shape.get_mut(self.axis).filter(|_| size.is_multiple_of(self.times))? = size / self.times;
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(tensor: &str, shape: &[usize], axis: usize, times: usize) -> Side {
        Side { tensor: tensor.to_owned(), shape: shape.to_vec(), axis, times }
    }

    #[track_caller]
    fn check(
        rows: Side,
        columns: Side,
        found: (usize, usize),
        expected: (usize, usize),
        told: &str,
    ) {
        let origin = Origin { rows, columns, take: Take::Whole };
        assert_eq!(origin.misfit(found, expected), told);
    }

    #[test]
    fn the_wrong_side_is_named_with_the_shape_that_fits() {
        let (up, down) = (|| side("up", &[48, 4], 0, 1), || side("down", &[4, 32], 1, 1));
        let told = "`down` has shape [4, 32] where [4, 64] would fit";
        check(up(), down(), (48, 32), (48, 64), told);
        check(up(), down(), (48, 32), (96, 64), told);
        check(up(), down(), (48, 32), (96, 32), "`up` has shape [48, 4] where [96, 4] would fit");
    }

    #[test]
    fn a_tensor_that_is_both_sides_is_wrong_in_both() {
        let whole = |axis| side("diff", &[48, 32], axis, 1);
        let told = "`diff` has shape [48, 32] where [96, 64] would fit";
        check(whole(0), whole(1), (48, 32), (96, 64), told);
        let norm = || side("norm", &[48], 0, 1);
        check(norm(), norm(), (48, 1), (96, 1), "`norm` has shape [48] where [96] would fit");
    }

    #[test]
    fn a_factor_of_a_kronecker_product_is_a_part_of_the_size() {
        let w1 = |axis| side("w1", &[4, 4], axis, 12);
        let told = "`w1` has shape [4, 4] where [8, 4] would fit";
        check(w1(0), w1(1), (48, 48), (96, 48), told);
        let told = "`w1` has shape [4, 4], no shape of it would fit";
        check(w1(0), w1(1), (48, 48), (50, 48), told);
    }

    #[test]
    fn rows_of_a_joined_tensor_are_counted_in_the_file() {
        let take = Take::Rows { first: 1, last: 2, of: 3 };
        let (rows, columns) = (side("up", &[144, 4], 0, 1), side("down", &[4, 48], 1, 1));
        let told = Origin { rows, columns, take }.misfit((48, 48), (64, 48));
        assert_eq!(told, "`up` has shape [144, 4] where [192, 4] would fit");
    }
}
