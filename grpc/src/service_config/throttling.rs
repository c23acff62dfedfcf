//! The limit on further attempts when a service fails.

use fleetward_core::Error;

use super::json::Node;

/// How far a service may fail before its calls are neither retried nor hedged: gRFC A6's
/// `retryThrottling`.
///
/// A channel has so many tokens at first and at most. A call that fails with a code that would be
/// retried takes one, a call that succeeds brings back `token_ratio` of one, and while half or fewer
/// are left there is no attempt but the first.
///
/// ```
/// use fleetward_grpc::RetryThrottling;
/// let throttling = RetryThrottling::new(10, 0.1)?;
/// assert_eq!(throttling.token_ratio(), 0.1);
/// assert!(RetryThrottling::new(0, 0.1).is_err());
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryThrottling {
    max_tokens: u32,
    /// Thousandths of a token: exact sums, whatever the number of calls.
    milli_ratio: u32,
}

impl RetryThrottling {
    /// The most tokens there are.
    pub const MAX_TOKENS: u32 = 1000;

    /// Sets how many tokens there are (1 to [`MAX_TOKENS`](Self::MAX_TOKENS)) and how many a success brings back. Three
    /// digits of a fraction count; more than all tokens means all of them.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for another number of tokens, or a
    /// ratio that is below a thousandth or no number.
    pub fn new(max_tokens: u32, token_ratio: f64) -> Result<Self, Error> {
        let max_tokens = checked_tokens(max_tokens).map_err(Error::invalid_input)?;
        let milli_ratio = milli_ratio(token_ratio, max_tokens).map_err(Error::invalid_input)?;
        Ok(Self { max_tokens, milli_ratio })
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, Error> {
        let max_tokens = node.require("maxTokens", |node| {
            checked_tokens(node.whole()?).map_err(|why| node.error(why))
        })?;
        let milli_ratio = node.require("tokenRatio", |node| {
            milli_ratio(node.number()?, max_tokens).map_err(|why| node.error(why))
        })?;
        Ok(Self { max_tokens, milli_ratio })
    }

    /// How many tokens there are at first, and at most.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// How much of a token a success brings back.
    pub fn token_ratio(&self) -> f64 {
        f64::from(self.milli_ratio) / 1000.0
    }
}

fn checked_tokens(tokens: u32) -> Result<u32, &'static str> {
    match tokens {
        1..=RetryThrottling::MAX_TOKENS => Ok(tokens),
        _ => Err("must be from 1 to 1000 tokens"),
    }
}

fn milli_ratio(ratio: f64, max_tokens: u32) -> Result<u32, &'static str> {
    // What is cut off is digits, not the error of a binary fraction: 1.001 is 1001 thousandths.
    let milli = (ratio * 1000.0 + 1e-6).floor().min(f64::from(max_tokens) * 1000.0);
    if milli.is_nan() || ratio.is_nan() || milli < 1.0 {
        return Err("must be a ratio of at least 0.001");
    }
    Ok(milli as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_of_the_ratio_count() {
        let ratio = |ratio| RetryThrottling::new(10, ratio).map(|it| it.token_ratio()).ok();
        for milli in 1..=10_000 {
            let exact = f64::from(milli) / 1000.0;
            assert_eq!(ratio(exact), Some(exact));
        }
        assert_eq!(ratio(0.57899), Some(0.578));
        assert_eq!(ratio(1e300), Some(10.0));
        assert_eq!(ratio(f64::INFINITY), Some(10.0));
        for bad in [0.0, -0.1, 0.0009, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(ratio(bad), None, "{bad}");
        }
    }
}
