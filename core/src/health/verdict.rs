//! From single probes to a verdict.

/// Counts probes that contradict the verdict. The first probe decides at once, as in Envoy, so that
/// neither a good instance waits at the start of a client nor a bad one is called.
#[derive(Debug)]
pub(super) struct Verdict {
    healthy_threshold: u32,
    unhealthy_threshold: u32,
    healthy: Option<bool>,
    contradicting: u32,
}

impl Verdict {
    pub(super) fn new(healthy_threshold: u32, unhealthy_threshold: u32) -> Self {
        Self { healthy_threshold, unhealthy_threshold, healthy: None, contradicting: 0 }
    }

    /// Takes note of a probe and says whether the endpoint is well.
    pub(super) fn after(&mut self, good: bool) -> bool {
        let Some(healthy) = self.healthy else {
            self.healthy = Some(good);
            return good;
        };
        if good == healthy {
            self.contradicting = 0;
            return healthy;
        }
        self.contradicting += 1;
        let needed = if good { self.healthy_threshold } else { self.unhealthy_threshold };
        if self.contradicting < needed {
            return healthy;
        }
        self.contradicting = 0;
        self.healthy = Some(good);
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(healthy_threshold: u32, unhealthy_threshold: u32, probes: &str) -> String {
        let mut verdict = Verdict::new(healthy_threshold, unhealthy_threshold);
        let after = probes.chars().map(|probe| verdict.after(probe == '+'));
        after.map(|healthy| if healthy { '+' } else { '-' }).collect()
    }

    #[test]
    fn the_first_probe_decides_then_only_so_many_in_a_row() {
        assert_eq!(verdicts(2, 3, "+--+---++"), "++++++--+");
        assert_eq!(verdicts(2, 3, "-+-++--+---"), "----++++++-");
        assert_eq!(verdicts(1, 1, "+-+-"), "+-+-");
        assert_eq!(verdicts(3, 1, "+-++-+++"), "+------+");
    }
}
