//! Axes: where a figure is drawn, and which figures are written beneath.

use crate::row::Unit;
use crate::units;

/// About so many figures stand beneath a linear axis.
const TICKS: f64 = 4.0;

/// From zero to a round figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    end: f64,
    step: f64,
    /// What figures are divided by to be written, and the name of that.
    divisor: f64,
    unit: &'static str,
}

impl Linear {
    /// An axis for figures up to a greatest.
    pub(super) fn to(greatest: f64, unit: Unit) -> Self {
        let (divisor, name) = divisor(greatest, unit);
        let step = round_step(greatest / divisor / TICKS) * divisor;
        Linear { end: (greatest / step).ceil().max(1.0) * step, step, divisor, unit: name }
    }

    /// The place of a figure, from 0 to 1.
    pub(super) fn at(&self, figure: f64) -> f64 {
        (figure / self.end).clamp(0.0, 1.0)
    }

    /// Places, and what is written there.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let count = (self.end / self.step).round() as u32;
        let tick = |n: u32| {
            let figure = self.step * f64::from(n);
            (self.at(figure), plain(figure / self.divisor))
        };
        (0..=count).map(tick).collect()
    }

    /// What the figures are.
    pub(super) fn unit(&self) -> &'static str {
        self.unit
    }
}

/// A figure of an axis: round already.
fn plain(figure: f64) -> String {
    let text = format!("{figure:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn divisor(greatest: f64, unit: Unit) -> (f64, &'static str) {
    let steps: &[(f64, &str)] = match unit {
        Unit::Bytes => &[(1_073_741_824.0, "GiB/s"), (1_048_576.0, "MiB/s"), (1024.0, "KiB/s"), (1.0, "B/s")],
        Unit::Operations => &[(1e6, "million operations/s"), (1e3, "thousand operations/s"), (1.0, "operations/s")],
        Unit::Files => &[(1e6, "million files/s"), (1e3, "thousand files/s"), (1.0, "files/s")],
        Unit::Names => &[(1e6, "million names/s"), (1e3, "thousand names/s"), (1.0, "names/s")],
    };
    *steps.iter().find(|(size, _)| greatest >= *size).unwrap_or(&steps[steps.len() - 1])
}

/// The next larger of 1, 2, 5, 10, 20, …
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * 0.999);
    factor.unwrap_or(10.0) * power
}

/// From one power of ten to another, of microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decades {
    from: i32,
    to: i32,
}

impl Decades {
    /// An axis that has all these times.
    pub(super) fn around(times: &[f64]) -> Option<Self> {
        let least = times.iter().copied().min_by(f64::total_cmp)?.max(1e-3);
        let greatest = times.iter().copied().max_by(f64::total_cmp)?.max(least);
        let from = least.log10().floor() as i32;
        Some(Decades { from, to: (greatest.log10().ceil() as i32).max(from + 1) })
    }

    /// The place of a time, from 0 to 1.
    pub(super) fn at(&self, micros: f64) -> f64 {
        let width = f64::from(self.to - self.from);
        ((micros.max(1e-3).log10() - f64::from(self.from)) / width).clamp(0.0, 1.0)
    }

    /// Places, and what is written there.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        (self.from..=self.to).map(|power| 10_f64.powi(power)).map(|time| (self.at(time), shown(time))).collect()
    }
}

fn shown(micros: f64) -> String {
    if micros < 1.0 { format!("{:.0} ns", micros * 1e3) } else { units::time(micros) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn an_axis_ends_behind_the_greatest_figure_in_round_steps() {
        let axis = Linear::to(870.0 * 1_048_576.0, Unit::Bytes);
        assert_eq!((labels(axis.ticks()), axis.unit()), (["0", "500", "1000"].map(String::from).to_vec(), "MiB/s"));
        assert!(axis.at(870.0 * 1_048_576.0) < 1.0 && axis.at(0.0) == 0.0);
        let axis = Linear::to(14_800.0, Unit::Operations);
        assert_eq!(
            (labels(axis.ticks()), axis.unit()),
            (["0", "5", "10", "15"].map(String::from).to_vec(), "thousand operations/s")
        );
        assert_eq!(labels(Linear::to(0.0, Unit::Names).ticks())[0], "0", "nothing at all has an axis too");
    }

    #[test]
    fn times_are_drawn_by_powers_of_ten() {
        let axis = Decades::around(&[30.0, 4_000.0]).expect("an axis");
        assert_eq!(labels(axis.ticks()), ["10 µs", "100 µs", "1 ms", "10 ms"]);
        assert!((axis.at(100.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(labels(Decades::around(&[0.2]).expect("an axis").ticks()), ["100 ns", "1 µs"]);
        assert!(Decades::around(&[]).is_none());
    }
}
