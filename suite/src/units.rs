//! Figures as people read them: three digits that count, and a unit.

const STEPS: [(f64, &str); 4] = [(1_099_511_627_776.0, "TiB"), (1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB")];

/// A size: `4 KiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes as f64)
}

/// Bytes a second: `812 MiB/s`.
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", scaled(bytes_per_second))
}

/// A number of things a second: `12.3k/s`.
pub fn count_rate(per_second: f64) -> String {
    format!("{}/s", count(per_second))
}

/// A number: `950`, `12.3k`, `1.2M`.
pub fn count(value: f64) -> String {
    match value {
        v if v >= 999_500_000.0 => format!("{}G", digits(v / 1e9)),
        v if v >= 999_500.0 => format!("{}M", digits(v / 1e6)),
        v if v >= 999.5 => format!("{}k", digits(v / 1e3)),
        v => digits(v),
    }
}

/// A time, from microseconds: `0.8 µs`, `85 µs`, `1.2 ms`, `3.4 s`.
pub fn time(micros: f64) -> String {
    match micros {
        us if us >= 999_500.0 => format!("{} s", digits(us / 1e6)),
        us if us >= 999.5 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} µs", digits(us)),
    }
}

fn scaled(bytes: f64) -> String {
    match STEPS.iter().find(|(unit, _)| bytes >= *unit * 0.9995) {
        Some((unit, name)) => format!("{} {name}", digits(bytes / unit)),
        None => format!("{} B", digits(bytes)),
    }
}

/// Three digits that count, without zeroes at the end of a fraction.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_have_three_digits() {
        assert_eq!([size(0), size(4096), size(1 << 20), size(3 << 29)], ["0 B", "4 KiB", "1 MiB", "1.5 GiB"]);
        assert_eq!([rate(812.4 * 1_048_576.0), rate(1_234_567.0)], ["812 MiB/s", "1.18 MiB/s"]);
        assert_eq!(rate(1023.9 * 1_048_576.0), "1 GiB/s", "no unit has four digits");
    }

    #[test]
    fn counts_and_times_change_their_unit_in_time() {
        assert_eq!(
            [count_rate(7.25), count_rate(999.7), count_rate(123_456.0), count_rate(2e6)],
            ["7.25/s", "1k/s", "123k/s", "2M/s"]
        );
        assert_eq!([time(0.8), time(85.2), time(1200.0), time(3_400_000.0)], ["0.8 µs", "85.2 µs", "1.2 ms", "3.4 s"]);
    }
}
