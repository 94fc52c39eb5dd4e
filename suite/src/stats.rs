//! Percentiles of many operations, and medians and ratios of few rounds.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Digits that a latency keeps: an error of a thousandth, far below the noise of any machine.
const DIGITS: u8 = 3;
/// What takes longer counts as this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long each of many operations took.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Latencies(Histogram::new(DIGITS).expect("a number of digits that exists"))
    }
}

/// What people ask of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many operations.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half were faster.
    pub p50: f64,
    /// Nine in ten were.
    pub p90: f64,
    /// 19 in 20 were.
    pub p95: f64,
    /// 99 in 100 were.
    pub p99: f64,
    /// 999 in 1,000 were.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latencies {
    /// Notes one operation.
    pub fn record(&mut self, took: Duration) {
        let nanos = took.min(LONGEST).as_nanos() as u64;
        self.0.record(nanos.max(1)).expect("a histogram grows by itself to a day");
    }

    /// Takes in what another thread or round noted.
    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("histograms of one kind, which grow by themselves");
    }

    /// The percentiles; `None` of nothing.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(self.0.max()),
        })
    }
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Of some figures; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Spread { median, least, greatest })
    }

    /// The whole spread as a share of the median.
    pub fn relative(&self) -> f64 {
        if self.median > 0.0 { (self.greatest - self.least) / self.median } else { 0.0 }
    }
}

/// How many times as fast the first target is as the second: of each round its own ratio, so that a slow minute of the machine counts on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The median of the rounds, with the least and the greatest.
    #[serde(flatten)]
    pub spread: Spread,
    /// Whether it stands out from the noise between rounds: see [`ratio`].
    pub is_decided: bool,
}

/// Rounds that it takes to decide anything: two agree by chance every second time.
const DECIDING: usize = 3;

/// Compares two targets round by round; rounds that only one of them has do not count. It is decided which is faster if all of several rounds say so, the
/// closest of them by at least half of what lies between the rounds: equal targets come to that in 8 of 100 rows of three rounds, in fewer than 1 of five.
pub fn ratio(of: &[Option<f64>], to: &[Option<f64>]) -> Option<Ratio> {
    let pairs = of.iter().zip(to).filter_map(|(of, to)| Some(((*of)?, (*to)?)));
    let ratios: Vec<f64> = pairs.filter(|(_, to)| *to > 0.0).map(|(of, to)| of / to).collect();
    let spread = Spread::of(&ratios)?;
    let (low, high) = (spread.least.max(f64::MIN_POSITIVE).ln(), spread.greatest.max(f64::MIN_POSITIVE).ln());
    let closest = if low > 0.0 { low } else { -high };
    let is_decided = ratios.len() >= DECIDING && closest > 0.0 && closest >= (high - low) / 2.0;
    Some(Ratio { spread, is_decided })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_thousand_are_what_they_say() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        (1..=1000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let p = latencies.percentiles().expect("of something");
        let near = |is: f64, should: f64| assert!((is / should - 1.0).abs() < 0.002, "{is}, not {should}");
        for (is, should) in [(p.p50, 500.0), (p.p90, 900.0), (p.p95, 950.0), (p.p99, 990.0), (p.p999, 999.0), (p.max, 1000.0)] {
            near(is, should);
        }
        near(p.mean, 500.5);
        assert_eq!(p.count, 1000);
    }

    #[test]
    fn what_threads_noted_is_merged() {
        let (mut one, mut two) = (Latencies::default(), Latencies::default());
        one.record(Duration::from_nanos(10));
        two.record(Duration::from_secs(40));
        one.merge(&two);
        let p = one.percentiles().expect("of two");
        assert_eq!(p.count, 2);
        assert!(p.p50 < 0.011 && p.max > 39e6);
    }

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, greatest: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]).map(|s| (s.median, s.relative())), Some((2.5, 1.2)));
    }

    #[test]
    fn ratios_are_taken_within_rounds_and_doubted_where_rounds_disagree() {
        // The machine was twice as slow in the second round; the ratio does not see it.
        let of = [Some(200.0), Some(100.0), Some(200.0), None];
        let against = |to: [f64; 3]| ratio(&of, &to.map(Some)).expect("three rounds");
        assert_eq!((against([100.0, 50.0, 100.0]).spread.median, against([100.0, 50.0, 100.0]).is_decided), (2.0, true));
        assert!(against([220.0, 120.0, 230.0]).is_decided, "slower is decided as well");
        assert!(!against([190.0, 110.0, 180.0]).is_decided, "they do not agree");
        assert!(!against([198.0, 50.0, 150.0]).is_decided, "they agree, and the noise is larger than what they agree on");
        assert!(!ratio(&of[..2], &[Some(1.0), Some(1.0)]).expect("two rounds").is_decided, "two rounds decide nothing");
        assert_eq!(ratio(&[None], &[Some(1.0)]), None);
    }
}
