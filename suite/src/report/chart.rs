//! Charts of rows, as SVG: throughput as bars from zero, latency on an axis of powers of ten, both beside the same names. Colours and fonts are the page's.

use super::scale::{Decades, Linear};
use super::{Row, show_ratio};
use crate::stats::{Percentiles, Spread};
use crate::units;
use std::fmt::Write;

/// Widths of the columns, in the units of the drawing.
const WIDTH: f64 = 1130.0;
const BARS: Panel = Panel { from: 262.0, width: 290.0 };
/// Behind the bars, figures are written; behind those stands the ratio.
const RATIO_AT: f64 = 708.0;
const TIMES: Panel = Panel { from: 740.0, width: 362.0 };
/// Heights.
const TOP: f64 = 24.0;
const BOTTOM: f64 = 26.0;
const BAR: f64 = 13.0;
const GAP: f64 = 2.0;
const BETWEEN_ROWS: f64 = 11.0;
/// From the middle of a bar down to the foot of its figure.
const FOOT: f64 = 4.5;

#[derive(Clone, Copy)]
struct Panel {
    from: f64,
    width: f64,
}

impl Panel {
    fn at(self, share: f64) -> f64 {
        self.from + share * self.width
    }
}

/// Rows of one unit and state, of all targets.
pub(super) struct Chart<'a> {
    rows: &'a [&'a Row],
    bars: Linear,
    times: Option<Decades>,
    targets: usize,
}

impl<'a> Chart<'a> {
    /// A chart of rows that have figures; `None` if none has.
    pub(super) fn of(rows: &'a [&'a Row]) -> Option<Self> {
        let figures = || rows.iter().flat_map(|row| &row.results);
        let greatest = figures().filter_map(|f| f.per_second).map(|spread| spread.greatest).max_by(f64::total_cmp)?;
        let times: Vec<f64> = figures().filter_map(|f| f.latency_us).flat_map(|p| [p.p50, p.p999]).collect();
        let first = rows.first()?;
        Some(Chart {
            rows,
            bars: Linear::to(greatest, first.unit()),
            times: Decades::around(&times),
            targets: first.results.len(),
        })
    }

    fn row_height(&self) -> f64 {
        self.targets as f64 * (BAR + GAP) - GAP + BETWEEN_ROWS
    }

    fn plot_height(&self) -> f64 {
        self.rows.len() as f64 * self.row_height()
    }

    /// The drawing.
    pub(super) fn svg(&self, label: &str) -> String {
        let height = TOP + self.plot_height() + BOTTOM;
        let label = escape(label);
        let mut out = format!(r#"<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height:.0}">"#);
        self.axes(&mut out);
        for (number, row) in self.rows.iter().enumerate() {
            self.row(&mut out, row, TOP + number as f64 * self.row_height());
        }
        out + "</svg>\n"
    }

    fn axes(&self, out: &mut String) {
        text(out, "head", BARS.from, 13.0, "start", &format!("{}, bar: median, line: least to greatest", self.bars.unit()));
        self.axis(out, BARS, &self.bars.ticks());
        if self.targets == 2 {
            text(out, "head", RATIO_AT, 13.0, "end", "A/B");
        }
        if let Some(times) = self.times {
            text(out, "head", TIMES.from, 13.0, "start", "latency of an operation (log scale)");
            self.axis(out, TIMES, &times.ticks());
        }
    }

    fn axis(&self, out: &mut String, panel: Panel, ticks: &[(f64, String)]) {
        let (top, bottom) = (TOP, TOP + self.plot_height());
        for (place, label) in ticks {
            line(out, "grid", (panel.at(*place), top), (panel.at(*place), bottom));
            text(out, "soft num", panel.at(*place), bottom + 16.0, "middle", label);
        }
        line(out, "axis", (panel.from, bottom), (panel.at(1.0), bottom));
    }

    fn row(&self, out: &mut String, row: &Row, top: f64) {
        let inner = self.row_height() - BETWEEN_ROWS;
        let middle = top + BETWEEN_ROWS / 2.0 + inner / 2.0;
        text(out, "name", BARS.from - 10.0, middle + FOOT, "end", &row.title);
        for (target, figures) in row.results.iter().enumerate() {
            let bar_middle = top + BETWEEN_ROWS / 2.0 + target as f64 * (BAR + GAP) + BAR / 2.0;
            match &figures.per_second {
                Some(spread) => self.bar(out, row, spread, (target, bar_middle)),
                None => text(out, "soft", BARS.from + 6.0, bar_middle + FOOT, "start", "not measured"),
            }
            if let (Some(times), Some(latency)) = (&self.times, &figures.latency_us) {
                draw_latency(out, *times, latency, (target, bar_middle));
            }
        }
        if let Some(ratio) = &row.ratio {
            text(out, "ratio num", RATIO_AT, middle + FOOT, "end", &show_ratio(ratio));
        }
    }

    fn bar(&self, out: &mut String, row: &Row, spread: &Spread, at: (usize, f64)) {
        let (target, middle) = at;
        let show = |figure| row.unit().show(figure);
        let width = (self.bars.at(spread.median) * BARS.width).max(1.0);
        let (x, y, said) = (BARS.from, middle - BAR / 2.0, show(spread.median));
        let range = format!("{}: {said}, {} to {}", row.title, show(spread.least), show(spread.greatest));
        write!(
            out,
            r#"<rect class="bar s{target}" x="{x}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2"><title>{}</title></rect>"#,
            escape(&range)
        )
        .expect("writing to a string");
        let (least, greatest) = (BARS.at(self.bars.at(spread.least)), BARS.at(self.bars.at(spread.greatest)));
        if greatest - least > 1.0 {
            line(out, "whisker", (least, middle), (greatest, middle));
            [least, greatest].into_iter().for_each(|x| line(out, "whisker", (x, middle - 3.0), (x, middle + 3.0)));
        }
        text(out, "num value", greatest.max(BARS.from + width) + 7.0, middle + FOOT, "start", &said);
    }
}

/// A dot at half, a line to 99 in 100, a thin one to 999 in 1,000.
fn draw_latency(out: &mut String, times: Decades, latency: &Percentiles, at: (usize, f64)) {
    let (target, y) = at;
    let x = |micros| TIMES.at(times.at(micros));
    let series = |kind: &str| format!("{kind} s{target}");
    line(out, &series("span thin"), (x(latency.p99), y), (x(latency.p999), y));
    line(out, &series("span"), (x(latency.p50), y), (x(latency.p99), y));
    let said = format!(
        "p50 {}, p99 {}, p99.9 {}, slowest {}",
        units::time(latency.p50),
        units::time(latency.p99),
        units::time(latency.p999),
        units::time(latency.max)
    );
    let (middle, end) = (x(latency.p50), x(latency.p999));
    write!(
        out,
        r#"<rect class="{}" x="{:.1}" y="{:.1}" width="2" height="9"/><circle class="{}" cx="{middle:.1}" cy="{y:.1}" r="4"><title>{said}</title></circle>"#,
        series("tail"),
        end - 1.0,
        y - 4.5,
        series("dot"),
    )
    .expect("writing to a string");
}

fn text(out: &mut String, class: &str, x: f64, y: f64, anchor: &str, what: &str) {
    let what = escape(what);
    write!(out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{what}</text>"#)
        .expect("writing to a string");
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    write!(out, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#).expect("writing to a string");
}

/// Text as HTML and XML have it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_chart_has_a_bar_and_a_dot_for_each_figure() {
        let report = sample::report(2);
        let rows: Vec<&Row> = report.rows.iter().take(3).collect();
        let svg = Chart::of(&rows).expect("figures").svg("Sequential & more");
        let count = |part: &str| svg.matches(part).count();
        assert_eq!((count(r#"class="bar s0""#), count(r#"class="bar s1""#), count(r#"class="dot s0""#)), (3, 3, 3));
        assert_eq!((count(r#"class="ratio num""#), count(r#"aria-label="Sequential &amp; more""#)), (3, 1));
        assert!(svg.contains("810 MiB/s") && svg.contains("GiB/s, bar: median"), "{svg}");
    }

    #[test]
    fn what_was_not_measured_is_said_and_of_nothing_there_is_no_chart() {
        let report = sample::report(1);
        let names: Vec<&Row> = report.rows[4..].iter().collect();
        let svg = Chart::of(&names).expect("figures").svg("Names");
        assert_eq!(svg.matches("not measured").count(), 1);
        assert!(Chart::of(&names[..1]).is_none());
    }

    #[test]
    fn what_is_text_stays_text() {
        assert_eq!(escape(r#"<a b="c">&"#), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
