//! A bound on how much more than its share an endpoint may carry.

use fleetward_core::balancing::ReadySet;

/// How many times its share of the calls under way an endpoint may have ("Consistent hashing with
/// bounded loads": Mirrokni, Thorup, Zadimoghaddam, 2016).
///
/// In millionths, so that all that follows is exact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadBound {
    millionths: u32,
}

const ONE: u32 = 1_000_000;

impl LoadBound {
    /// Clamps to 1 to 1000; no number counts as 1.
    pub(crate) fn new(factor: f64) -> Self {
        let factor = if factor.is_nan() { 1.0 } else { factor.clamp(1.0, 1000.0) };
        Self { millionths: (factor * f64::from(ONE)).round() as u32 }
    }
}

/// Which endpoints of one set have room at one moment.
pub(crate) struct Room<'a> {
    bound: LoadBound,
    endpoints: &'a ReadySet<'a>,
    total_weight: u64,
    /// Calls under way at all of them, once somebody had to know.
    total: Option<u64>,
}

impl<'a> Room<'a> {
    pub(crate) fn new(bound: LoadBound, endpoints: &'a ReadySet<'a>, total_weight: u64) -> Self {
        Self { bound, endpoints, total_weight, total: None }
    }

    /// Whether one more call there stays within the bound: `in_flight + 1 <= ceil(factor * share *
    /// (total + 1))`. An idle endpoint always has room; for others all are asked, once.
    pub(crate) fn is_at(&mut self, position: usize) -> bool {
        let Some(member) = self.endpoints.get(position) else { return false };
        let in_flight = member.in_flight();
        if in_flight == 0 {
            return true;
        }
        let sum = || self.endpoints.iter().map(|member| member.in_flight() as u64).sum();
        let total = *self.total.get_or_insert_with(sum);
        // For whole numbers `a + 1 <= ceil(x)` is `a < x`; and without a division.
        let share = u128::from(member.instance().weight()) * u128::from(self.bound.millionths);
        let most = share * (u128::from(total) + 1);
        in_flight as u128 * u128::from(self.total_weight) * u128::from(ONE) < most
    }
}

#[cfg(test)]
mod tests {
    use fleetward_core::Instance;
    use fleetward_core::endpoints::Member;

    use super::*;

    #[test]
    fn room_is_what_the_formula_says() {
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..300 {
            let factor = 1.0 + f64::from(rng.u32(0..=8)) / 8.0;
            let members: Vec<_> = (1..=rng.u16(1..8))
                .map(|port| {
                    let instance = Instance::new(format!("10.0.0.1:{port}")).unwrap();
                    Member::detached(instance.with_weight(rng.u32(1..5)))
                })
                .collect();
            let under_way: Vec<_> =
                (0..rng.usize(..30)).map(|_| members[rng.usize(..members.len())].begin()).collect();
            let weight = |member: &Member| u64::from(member.instance().weight());
            let total_weight: u64 = members.iter().map(weight).sum();
            let set = ReadySet::new(&members);
            let mut room = Room::new(LoadBound::new(factor), &set, total_weight);
            for (position, member) in members.iter().enumerate() {
                let share = factor * weight(member) as f64 / total_weight as f64;
                let most = (share * (under_way.len() + 1) as f64 - 1e-9).ceil();
                let expected = (member.in_flight() + 1) as f64 <= most;
                assert_eq!(room.is_at(position), expected, "{position} of {set:?}, {factor}");
            }
            assert!((0..members.len()).any(|position| room.is_at(position)));
            assert!(!room.is_at(members.len()));
        }
    }

    #[test]
    fn nonsense_is_clamped() {
        for (factor, millionths) in
            [(f64::NAN, 1_000_000), (-1.0, 1_000_000), (1.25, 1_250_000), (1e300, 1_000_000_000)]
        {
            assert_eq!(LoadBound::new(factor).millionths, millionths);
        }
    }
}
