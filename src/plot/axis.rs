//! Round numbers for axes.

/// Multiples of 1, 2 or 5 times a power of ten within `low..=high`, about `count` of them.
pub(super) fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count.max(1) as f64;
    if !(rough > 0.0 && rough.is_finite()) {
        return vec![low];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let slack = step * 1e-6;
    let (first, last) = (((low - slack) / step).ceil(), ((high + slack) / step).floor());
    // Adding steps up would add their rounding up as well.
    (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step).collect()
}

/// Ticks for a logarithmic axis within `low..=high`, both above 0: powers of ten, with 2 and 5 times
/// them where there are few.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let multiples: &[f64] = match decades {
        d if d > 3.0 => &[1.0],
        d if d > 1.0 => &[1.0, 2.0, 5.0],
        // Within less than a decade even steps read better.
        _ => return ticks(low, high, 5),
    };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    powers
        .flat_map(|p| multiples.iter().map(move |m| m * 10f64.powi(p)))
        .filter(|&t| t >= low * 0.999_999 && t <= high * 1.000_001)
        .collect()
}

/// A number as a person would write it at an axis: `0.25`, `40`, `12k`, `1.5M`, `1e-5`.
pub(super) fn label(value: f64) -> String {
    let size = value.abs();
    let (scaled, unit) = match size {
        s if s >= 1e9 || (s < 1e-3 && s > 0.0) => return format!("{value:.0e}"),
        s if s >= 1e6 => (value / 1e6, "M"),
        s if s >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if scaled.abs() >= 100.0 { 1 } else { 4 };
    let number = format!("{scaled:.digits$}");
    let number = number.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if number == "-0" { "0" } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(0.0, 10.0, 6), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-87.0, -12.0, 4), [-80.0, -60.0, -40.0, -20.0]);
        assert_eq!(ticks(3.0, 3.0, 4), [3.0]);
        assert_eq!(log_ticks(0.09, 11.0), [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 0.6000000000000001, 0.25, 40.0, 12_000.0, 1.5e6, 1e-5, -20.0, 1000.0];
        let labels: Vec<String> = labels.into_iter().map(label).collect();
        assert_eq!(labels, ["0", "0.6", "0.25", "40", "12k", "1.5M", "1e-5", "-20", "1000"]);
    }
}
