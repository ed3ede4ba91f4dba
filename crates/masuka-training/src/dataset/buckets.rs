//! Sizes of about equal area: pictures of different shapes are trained in groups of like shape, uncut as far as possible.

use serde::{Deserialize, Serialize};

/// The most that one side of a bucket is longer than the other.
const MAX_ASPECT: f64 = 2.0;

/// A size of pictures that are trained together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
}

impl Bucket {
    fn aspect(self) -> f64 {
        self.width as f64 / self.height as f64
    }
}

/// All sizes of a resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Vec<Bucket>);

impl Buckets {
    /// The sizes whose sides are multiples of `multiple` and whose area is at most `resolution`², for each width the
    /// highest.
    pub fn new(resolution: usize, multiple: usize) -> Self {
        let area = resolution * resolution;
        let widths = (1..=2 * resolution / multiple).map(|tokens| tokens * multiple);
        let highest = |width: usize| Bucket { width, height: area / width / multiple * multiple };
        let buckets = widths.map(highest).filter(|bucket| {
            let aspect = bucket.aspect();
            bucket.height > 0 && (1.0 / MAX_ASPECT..=MAX_ASPECT).contains(&aspect)
        });
        Self(buckets.collect())
    }

    /// All sizes, narrow ones first.
    pub fn all(&self) -> &[Bucket] {
        &self.0
    }

    /// The size whose shape is nearest to that of a picture; of equal shapes the largest.
    pub fn nearest(&self, width: usize, height: usize) -> Option<Bucket> {
        let wanted = (width as f64 / height as f64).ln();
        let distance = |bucket: &Bucket| (bucket.aspect().ln() - wanted).abs();
        let area = |bucket: &Bucket| bucket.width * bucket.height;
        self.0
            .iter()
            .copied()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)).then_with(|| area(b).cmp(&area(a))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_keep_area_multiple_and_shape() {
        let buckets = Buckets::new(1024, 16);
        assert!(buckets.all().contains(&Bucket { width: 1024, height: 1024 }));
        for bucket in buckets.all() {
            assert!(bucket.width % 16 == 0 && bucket.height % 16 == 0, "{bucket:?}");
            let area = bucket.width * bucket.height;
            assert!(area <= 1024 * 1024 && area > 1024 * 1024 * 97 / 100, "{bucket:?}");
            assert!((0.5..=2.0).contains(&bucket.aspect()), "{bucket:?}");
        }
    }

    #[test]
    fn a_picture_goes_where_its_shape_is_kept() {
        let buckets = Buckets::new(128, 16);
        let nearest = |width, height| buckets.nearest(width, height).map(|b| (b.width, b.height));
        assert_eq!(nearest(500, 500), Some((128, 128)));
        assert_eq!(nearest(4000, 3000), Some((144, 112)));
        assert_eq!(nearest(3000, 4000), Some((112, 144)));
        assert_eq!(nearest(9000, 100), Some((160, 96)));
    }
}
