//! Draws by weight in constant time.

/// Walker's alias table as Vose builds it ("A linear algorithm for generating random numbers with a
/// given distribution", 1991), in whole numbers: as many columns of the same height as there are
/// weights, each shared by two at most.
#[derive(Debug)]
pub(crate) struct AliasTable {
    columns: Box<[Column]>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Below this share of the column, as a fraction of 2^64, it is the column's own.
    own: u64,
    /// Whose the rest is.
    rest: u32,
}

impl AliasTable {
    /// Weight 0 is never drawn; where there is nothing else, nothing is.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let height: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if height == 0 {
            return Self { columns: Box::default() };
        }
        let count = weights.len() as u64;
        let mut heights: Vec<u64> = weights.iter().map(|&w| u64::from(w) * count).collect();
        let mut columns: Vec<Column> =
            (0..).zip(weights).map(|(rest, _)| Column { own: u64::MAX, rest }).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&at| heights[at] < height);
        while let (Some(at), Some(&donor)) = (low.pop(), high.last()) {
            let own = ((u128::from(heights[at]) << 64) / u128::from(height)) as u64;
            columns[at] = Column { own, rest: donor as u32 };
            heights[donor] -= height - heights[at];
            if heights[donor] < height {
                high.pop();
                low.push(donor);
            }
        }
        Self { columns: columns.into() }
    }

    /// Turns 64 random bits into an index: the upper ones choose a column, the others a place in it.
    pub(crate) fn at(&self, bits: u64) -> Option<usize> {
        let scaled = u128::from(bits) * self.columns.len() as u128;
        let (index, place) = ((scaled >> 64) as usize, scaled as u64);
        let column = self.columns.get(index)?;
        Some(if place < column.own { index } else { column.rest as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What share of all draws each gets.
    fn shares(table: &AliasTable) -> Vec<f64> {
        let mut shares = vec![0.0; table.columns.len()];
        for (index, column) in table.columns.iter().enumerate() {
            let own = column.own as f64 / 2f64.powi(64) / table.columns.len() as f64;
            shares[index] += own;
            shares[column.rest as usize] += 1.0 / table.columns.len() as f64 - own;
        }
        shares
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let mut rng = fastrand::Rng::with_seed(9);
        let random = (0..200).map(|_| {
            let most = u32::MAX >> rng.u32(..32);
            (0..rng.usize(1..200)).map(|_| rng.u32(0..=most)).collect::<Vec<_>>()
        });
        for weights in [vec![1], vec![0, 5, 0], vec![1, 1_000_000], vec![u32::MAX; 7]]
            .into_iter()
            .chain(random)
        {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            for (share, &weight) in shares(&AliasTable::new(&weights)).iter().zip(&weights) {
                let ideal = f64::from(weight) / total;
                assert!((share - ideal).abs() < 1e-12, "{share} {ideal} {weights:?}");
                assert!(weight > 0 || *share == 0.0);
            }
        }
    }

    #[test]
    fn nothing_is_drawn_where_nothing_weighs() {
        assert_eq!(AliasTable::new(&[]).at(1), None);
        assert_eq!(AliasTable::new(&[0, 0]).at(u64::MAX), None);
        let table = AliasTable::new(&[0, 1, 0]);
        assert!(
            (0..=64).all(|shift| table.at(u64::MAX.checked_shr(shift).unwrap_or(0)) == Some(1))
        );
    }
}
