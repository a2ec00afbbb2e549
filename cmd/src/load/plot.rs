//! The latencies as a picture (SVG): by percentile, and over time. Both axes of latency are logarithmic, and so is that of
//! the percentiles: each step to the right is ten times rarer.

use std::fmt::{self, Write as _};

use super::report::{Latencies, Report};

/// The picture, in its own units.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 330.0;
/// One panel: where it begins, how wide and high its plot is.
const LEFT: [f64; 2] = [60.0, 490.0];
const TOP: f64 = 60.0;
const PLOT: (f64, f64) = (340.0, 210.0);
/// Points of a percentile curve.
const POINTS: u32 = 120;
/// Steps of the percentile axis at most: up to 99.999 %.
const NINES_MAX: f64 = 5.0;

const STYLE: &str = "text{font:12px sans-serif;fill:#24292f}.title{font-weight:bold;font-size:14px}\
.grid{stroke:#d0d7de}.line{fill:none;stroke-width:1.8}.a{stroke:#0550ae}.b{stroke:#bc4c00;stroke-dasharray:6 3}\
.c{stroke:#8c959f;stroke-width:5}.failed{fill:#cf222e}";

/// Draws it.
pub(super) fn svg(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = draw(report, &mut out);
    out
}

/// The decades that hold all latencies, as powers of ten of a millisecond.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(report: &Report) -> Self {
        let all = report.kinds().map(|(_, latencies)| latencies);
        let (low, high) = all.fold((u64::MAX, 1), |(low, high), one| (low.min(one.min()), high.max(one.max())));
        let decade = |micros: u64| (micros.max(1) as f64 / 1000.0).log10();
        let low = decade(low.min(high)).floor();
        Self { low, high: decade(high).ceil().max(low + 1.0) }
    }

    fn y(&self, micros: u64) -> f64 {
        let at = ((micros.max(1) as f64 / 1000.0).log10() - self.low) / (self.high - self.low);
        TOP + PLOT.1 * (1.0 - at.clamp(0.0, 1.0))
    }
}

fn draw(report: &Report, out: &mut String) -> fmt::Result {
    let scale = Scale::of(report);
    write!(out, r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>"#)?;
    let shape = &report.shape;
    let rate = if shape.rate == 0 { "closed loop".into() } else { format!("{} requests a second", shape.rate) };
    let seconds = shape.duration.as_secs_f64();
    let title = format!(
        "load, {}: {rate} for {seconds:.0} s, {} sent, {} failed, {} degraded",
        shape.profile.name(),
        report.total(),
        report.failed(),
        report.degraded
    );
    write!(out, "{title}</title><style>{STYLE}</style>")?;
    write!(out, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>"##)?;
    text(out, 16.0, 24.0, "title", "start", &title)?;
    let [left, right] = LEFT;
    by_percentile(report, &scale, left, out)?;
    over_time(report, &scale, right, seconds, out)?;
    out.push_str("</svg>\n");
    Ok(())
}

fn by_percentile(report: &Report, scale: &Scale, left: f64, out: &mut String) -> fmt::Result {
    // As far as there are requests: the rarest of a thousand is the 99.9th percentile.
    let count = report.kinds().map(|(_, latencies)| latencies.len()).max().unwrap_or(1);
    let nines = (count as f64).log10().clamp(1.0, NINES_MAX);
    let x = |rarity: f64| left + PLOT.0 * rarity / nines;
    panel(out, scale, left, "latency (ms) by percentile")?;
    for (rarity, name) in [(0.0, "0"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")] {
        if rarity <= nines {
            tick(out, x(rarity), name)?;
        }
    }
    for (class, (name, latencies)) in ["a", "b"].into_iter().zip(report.kinds()) {
        let point = |n: u32| {
            let rarity = nines * f64::from(n) / f64::from(POINTS);
            (x(rarity), scale.y(at(latencies, 1.0 - 10f64.powf(-rarity))))
        };
        curve(out, class, (0..=POINTS).map(point))?;
        legend(out, class, left, name)?;
    }
    Ok(())
}

fn at(latencies: &Latencies, quantile: f64) -> u64 {
    latencies.value_at_quantile(quantile)
}

fn over_time(report: &Report, scale: &Scale, left: f64, seconds: f64, out: &mut String) -> fmt::Result {
    let x = |second: f64| left + PLOT.0 * second / seconds;
    panel(out, scale, left, "latency (ms) over time (s)")?;
    for quarter in 0..=4 {
        let second = seconds * f64::from(quarter) / 4.0;
        tick(out, x(second), &format!("{second:.1}"))?;
    }
    let width = report.slot().as_secs_f64();
    let slots = || report.slots.iter().zip(0u32..).map(|(slot, n)| (slot, ((f64::from(n) + 0.5) * width).min(seconds)));
    // The widest first: of fewer than a hundred requests, the 99th percentile is the maximum, and lies upon it.
    for (class, name, quantile) in [("c", "max", 1.0), ("b", "p99", 0.99), ("a", "p50", 0.5)] {
        let seen = slots().filter(|(slot, _)| slot.count() > 0);
        curve(out, class, seen.map(|(slot, second)| (x(second), scale.y(slot.quantile(quantile)))))?;
        legend(out, class, left, name)?;
    }
    for (slot, second) in slots().filter(|(slot, _)| slot.failed > 0) {
        let (x, y) = (x(second), TOP + PLOT.1);
        write!(
            out,
            r#"<circle class="failed" cx="{x:.1}" cy="{y:.1}" r="3"><title>{} failed</title></circle>"#,
            slot.failed
        )?;
    }
    Ok(())
}

/// The frame of a panel, with a line for each decade.
fn panel(out: &mut String, scale: &Scale, left: f64, title: &str) -> fmt::Result {
    text(out, left, TOP - 12.0, "", "start", title)?;
    let mut decade = scale.low;
    while decade <= scale.high {
        let y = TOP + PLOT.1 * (1.0 - (decade - scale.low) / (scale.high - scale.low));
        let right = left + PLOT.0;
        write!(out, r#"<path class="grid" d="M{left} {y:.1}H{right}"/>"#)?;
        text(out, left - 6.0, y + 4.0, "", "end", &format!("{}", 10f64.powf(decade)))?;
        decade += 1.0;
    }
    Ok(())
}

fn tick(out: &mut String, x: f64, name: &str) -> fmt::Result {
    let (top, bottom) = (TOP, TOP + PLOT.1);
    write!(out, r#"<path class="grid" d="M{x:.1} {top}V{bottom}"/>"#)?;
    text(out, x, bottom + 18.0, "", "middle", name)
}

fn curve(out: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) -> fmt::Result {
    let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    write!(out, r#"<polyline class="line {class}" points="{}"/>"#, points.join(" "))
}

fn legend(out: &mut String, class: &str, left: f64, name: &str) -> fmt::Result {
    let place = match class {
        "a" => 0.0,
        "b" => 1.0,
        _ => 2.0,
    };
    let (x, y) = (left + 80.0 * place, TOP + PLOT.1 + 42.0);
    write!(out, r#"<path class="line {class}" d="M{x} {y}h24"/>"#)?;
    text(out, x + 30.0, y + 4.0, "", "start", name)
}

fn text(out: &mut String, x: f64, y: f64, class: &str, anchor: &str, words: &str) -> fmt::Result {
    write!(out, r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{words}</text>"#)
}
