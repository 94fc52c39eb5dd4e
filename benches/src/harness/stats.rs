//! Few figures, noisy machine: medians, the whole spread, and ratios within a round.

/// The middle value (the mean of the two middle ones), `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The least and the greatest value.
pub fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let greatest = values.iter().copied().max_by(f64::total_cmp)?;
    Some((least, greatest))
}

/// How many times as good one peer is as another: the median over the rounds of each round's ratio, so that a slow minute
/// of the machine counts on both sides. Rounds that only one of them finished do not count.
pub fn paired_ratio(of: &[Option<f64>], to: &[Option<f64>], higher_is_better: bool) -> Option<f64> {
    let ratio = |(of, to): (&Option<f64>, &Option<f64>)| {
        let (of, to) = ((*of)?, (*to)?);
        let (upper, lower) = if higher_is_better { (of, to) } else { (to, of) };
        (lower > 0.0).then(|| upper / lower)
    };
    median(&of.iter().zip(to).filter_map(ratio).collect::<Vec<f64>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        // The machine was twice as slow in the second round; the ratio does not see it.
        let (of, to) = ([Some(200.0), Some(100.0), None], [Some(100.0), Some(50.0), Some(1.0)]);
        assert_eq!(paired_ratio(&of, &to, true), Some(2.0));
        assert_eq!(paired_ratio(&of, &to, false), Some(0.5));
        assert_eq!(paired_ratio(&[None], &[Some(1.0)], true), None);
    }
}
