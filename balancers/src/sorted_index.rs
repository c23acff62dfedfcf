//! The search in sorted numbers that are spread over all of `u64`.

/// Sorted numbers, and for each stretch of the number line where to begin looking.
///
/// There are as many stretches as numbers. So where a number that is asked for may be anything with
/// the same probability, the expected cost is constant; where many lie in one stretch, a binary
/// search within it keeps the worst case logarithmic.
#[derive(Debug)]
pub(crate) struct SortedIndex {
    values: Box<[u64]>,
    /// For each stretch the first index whose value is not below it, and the length at the end.
    firsts: Box<[u32]>,
    shift: u32,
}

impl SortedIndex {
    /// Takes values in ascending order, fewer than 2^31.
    pub(crate) fn new(values: Vec<u64>) -> Self {
        let stretches = values.len().next_power_of_two().max(2);
        let shift = 64 - stretches.trailing_zeros();
        let first = |stretch: usize| values.partition_point(|&v| v < (stretch as u64) << shift);
        let firsts = (0..stretches).map(first).chain([values.len()]);
        let firsts = firsts.map(|index| index as u32).collect();
        Self { values: values.into(), firsts, shift }
    }

    /// The index of the first value that is `x` or more; the length if there is none.
    pub(crate) fn at_least(&self, x: u64) -> usize {
        let stretch = (x >> self.shift) as usize;
        let (from, to) = (self.firsts[stretch] as usize, self.firsts[stretch + 1] as usize);
        from + self.values[from..to].partition_point(|&value| value < x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_a_search_through_all_finds() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..200 {
            // Some spread evenly, some all in one corner, some twice.
            let mask = u64::MAX >> rng.u32(..60);
            let mut values: Vec<_> = (0..round).map(|_| rng.u64(..) & mask).collect();
            values.extend_from_within(..values.len() / 4);
            values.sort_unstable();
            let guide = SortedIndex::new(values.clone());
            let near = values.iter().flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)]);
            for x in near.chain([0, mask, u64::MAX]).chain((0..20).map(|_| rng.u64(..))) {
                assert_eq!(guide.at_least(x), values.partition_point(|&v| v < x), "{x} {values:?}");
            }
        }
    }
}
