//! gRFC A50's arithmetic.

/// The success rate below which an instance is an outlier: so many standard deviations (of the whole
/// population, not of a sample) below the mean, and at least `difference`. `None` without rates.
pub(super) fn success_rate_threshold(
    rates: &[f64],
    deviations: f64,
    difference: f64,
) -> Option<f64> {
    if rates.is_empty() {
        return None;
    }
    let n = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / n;
    Some(mean - (deviations * variance.sqrt()).max(difference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_one_among_good_ones_is_below_the_threshold() {
        let rates = [1.0, 1.0, 1.0, 1.0, 0.0];
        let threshold = success_rate_threshold(&rates, 1.9, 0.0).unwrap();
        // Mean 0.8, deviation 0.4.
        assert!((threshold - 0.04).abs() < 1e-9, "{threshold}");
        assert_eq!(success_rate_threshold(&[], 1.9, 0.0), None);
    }

    #[test]
    fn one_failure_among_thousands_of_calls_makes_no_outlier() {
        let rates = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.999];
        assert!(success_rate_threshold(&rates, 1.9, 0.0).unwrap() > 0.999);
        assert!(success_rate_threshold(&rates, 1.9, 0.05).unwrap() < 0.95);
    }

    #[test]
    fn identical_outliers_hide_behind_each_other_from_21_7_percent_on() {
        let rates = |bad: usize| -> Vec<f64> {
            (0..1000).map(|i| if i < bad { 0.0 } else { 1.0 }).collect()
        };
        assert!(success_rate_threshold(&rates(216), 1.9, 0.0).unwrap() > 0.0);
        assert!(success_rate_threshold(&rates(218), 1.9, 0.0).unwrap() < 0.0);
    }
}
