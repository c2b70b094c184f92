//! Line charts for training runs.

use super::Rgb;
use super::axis::{label, log_ticks, ticks};
use super::canvas::{Canvas, Font};
use super::colour::{GRID, INK, LINES, PAPER, SOFT_INK};

/// A line of a chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Places `(x, y)` in order of x; the line has a gap where one is not finite.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common axis.
///
/// ```
/// use tessera_codec::plot::{LineChart, Series};
///
/// let points = (1..100).map(|step| (f64::from(step), 1.0 / f64::from(step))).collect();
/// let chart = LineChart {
///     title: "Loss".into(),
///     x_title: "step".into(),
///     log_y: true,
///     series: vec![Series { name: "mel".into(), points }],
///     ..LineChart::default()
/// };
/// let canvas = chart.draw(640, 360);
/// assert_eq!((canvas.width(), canvas.height()), (640, 360));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LineChart {
    /// What stands above.
    pub title: String,
    /// What the horizontal axis shows.
    pub x_title: String,
    /// What the vertical axis shows.
    pub y_title: String,
    /// Whether the vertical axis is logarithmic; values of 0 and below leave gaps then.
    pub log_y: bool,
    /// Fixed ends of the vertical axis instead of those of the data.
    pub y_range: Option<(f64, f64)>,
    /// Draw noisy series faintly, with their moving average over a fiftieth of the points on top.
    pub smooth: bool,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

/// Margins in pixels.
const LEFT: i32 = 74;
const RIGHT: i32 = 20;
const TOP: i32 = 44;
const BOTTOM: i32 = 46;
/// Fewer points than this are not smoothed.
const SMOOTH_FROM: usize = 100;

impl LineChart {
    /// Draws the chart on `width` x `height` pixels (at least 240 x 160), with a legend at the right
    /// and a note where there is nothing to show yet.
    pub fn draw(&self, width: usize, height: usize) -> Canvas {
        let (width, height) = (width.max(240), height.max(160));
        let mut canvas = Canvas::new(width, height, PAPER);
        let longest = self.series.iter().map(|s| s.name.chars().count().min(28)).max().unwrap_or(0);
        let legend = if longest > 0 { longest as i32 * Font::Small.cell() + 34 } else { 0 };
        let legend = legend.min(width as i32 / 3);
        let area = Area {
            x: LEFT,
            y: TOP,
            width: width as i32 - LEFT - RIGHT - legend,
            height: height as i32 - TOP - BOTTOM,
        };
        canvas.text(LEFT, 14, &self.title, Font::Large, INK);
        let axis = |text: &str| Font::Small.width(text) / 2;
        let below = area.y + area.height + 28;
        let middle = area.x + area.width / 2 - axis(&self.x_title);
        canvas.text(middle, below, &self.x_title, Font::Small, SOFT_INK);
        let middle = area.y + area.height / 2 + axis(&self.y_title);
        canvas.text_upwards(8, middle, &self.y_title, Font::Small, SOFT_INK);

        match self.scale() {
            Some(scale) => {
                self.draw_grid(&mut canvas, &area, &scale);
                for (series, colour) in self.series.iter().zip(LINES.iter().cycle()) {
                    self.draw_series(&mut canvas, &area, &scale, series, *colour);
                }
            }
            None => {
                let text = "no data yet";
                let x = area.x + area.width / 2 - axis(text);
                canvas.text(x, area.y + area.height / 2, text, Font::Small, SOFT_INK);
            }
        }
        // Lines that leave the area are covered by the margins: draw those again.
        canvas.outline(area.x - 1, area.y - 1, area.width + 2, area.height + 2, SOFT_INK);
        let x = area.x + area.width + 14;
        for ((i, series), colour) in self.series.iter().enumerate().zip(LINES.iter().cycle()) {
            let y = area.y + 8 + 16 * i as i32;
            canvas.fill(x, y + 2, 16, 3, *colour);
            canvas.text(x + 22, y, &series.name, Font::Small, INK);
        }
        canvas
    }

    /// Ends of both axes in the units they are drawn in, or `None` without a point to show.
    fn scale(&self) -> Option<Scale> {
        let shown = || {
            let points = self.series.iter().flat_map(|s| &s.points);
            points.map(|&(x, y)| (x, self.place(y))).filter(|p| p.0.is_finite() && p.1.is_finite())
        };
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            values.fold(None, |ends: Option<(f64, f64)>, v| match ends {
                Some((low, high)) => Some((low.min(v), high.max(v))),
                None => Some((v, v)),
            })
        };
        let (left, right) = ends(&mut shown().map(|p| p.0))?;
        let (low, high) = match self.y_range {
            Some((low, high)) => (self.place(low), self.place(high)),
            None => {
                let (low, high) = ends(&mut shown().map(|p| p.1))?;
                let air = 0.04 * (high - low).max(1e-9 * high.abs());
                (low - air, high + air)
            }
        };
        // A single value gets an axis around it.
        let widen = |low: f64, high: f64| {
            if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
        };
        Some(Scale { x: widen(left, right), y: widen(low, high) })
    }

    /// A value in the units of the vertical axis.
    fn place(&self, y: f64) -> f64 {
        match self.log_y {
            true if y > 0.0 => y.log10(),
            true => f64::NAN,
            false => y,
        }
    }

    fn draw_grid(&self, canvas: &mut Canvas, area: &Area, scale: &Scale) {
        for tick in ticks(scale.x.0, scale.x.1, 8) {
            let x = area.point(scale, (tick, scale.y.0)).0 as i32;
            canvas.fill(x, area.y, 1, area.height, GRID);
            let text = label(tick);
            let left = x - Font::Small.width(&text) / 2;
            canvas.text(left, area.y + area.height + 8, &text, Font::Small, INK);
        }
        let marks = if self.log_y {
            log_ticks(10f64.powf(scale.y.0), 10f64.powf(scale.y.1))
        } else {
            ticks(scale.y.0, scale.y.1, 6)
        };
        for mark in marks {
            let y = area.point(scale, (scale.x.0, self.place(mark))).1 as i32;
            canvas.fill(area.x, y, area.width, 1, GRID);
            let text = label(mark);
            canvas.text(area.x - 8 - Font::Small.width(&text), y - 3, &text, Font::Small, INK);
        }
    }

    fn draw_series(
        &self,
        canvas: &mut Canvas,
        area: &Area,
        scale: &Scale,
        series: &Series,
        colour: Rgb,
    ) {
        let on_canvas = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points.iter().map(|&(x, y)| area.point(scale, (x, self.place(y)))).collect()
        };
        let raw = on_canvas(&series.points);
        if self.smooth && series.points.len() >= SMOOTH_FROM {
            canvas.polyline(&raw, 1.0, colour, 0.25);
            canvas.polyline(&on_canvas(&moving_average(&series.points)), 2.0, colour, 1.0);
        } else {
            canvas.polyline(&raw, 2.0, colour, 1.0);
        }
    }
}

/// Each point as the mean of those around it, a fiftieth of all; gaps neither count nor spread.
fn moving_average(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = points.len() / 100;
    let mean = |i: usize| {
        // At the start the curve is steep: the same reach on both sides keeps it from lagging. At the
        // end it is flat, and a shrinking reach would only show the noise.
        let reach = half.min(i);
        let around = &points[i - reach..=(i + reach).min(points.len() - 1)];
        let around = around.iter().map(|p| p.1).filter(|y| y.is_finite());
        let (sum, count) = around.fold((0.0, 0), |(sum, count), y| (sum + y, count + 1));
        sum / f64::from(count)
    };
    let point = |(i, p): (usize, &(f64, f64))| (p.0, if p.1.is_finite() { mean(i) } else { p.1 });
    points.iter().enumerate().map(point).collect()
}

/// The plot area in pixels.
struct Area {
    x: i32,
    y: i32,
    width: i32,
    height: i32,
}

/// Lower and upper ends of the axes.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Area {
    /// Where a place (vertical in the axis' units) lies on the canvas. Values beyond a fixed range are
    /// drawn at its end.
    fn point(&self, scale: &Scale, (x, y): (f64, f64)) -> (f64, f64) {
        let part = |v: f64, ends: (f64, f64)| ((v - ends.0) / (ends.1 - ends.0)).clamp(0.0, 1.0);
        (
            f64::from(self.x) + 0.5 + part(x, scale.x) * f64::from(self.width - 1),
            f64::from(self.y) + 0.5 + (1.0 - part(y, scale.y)) * f64::from(self.height - 1),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> LineChart {
        LineChart { series: vec![Series { name: "a".into(), points }], ..LineChart::default() }
    }

    /// Whether the first line's colour shows in a column.
    fn drawn_in(canvas: &Canvas, column: i32) -> bool {
        (TOP..canvas.height() as i32 - BOTTOM).any(|y| canvas.pixel(column, y) == Some(LINES[0]))
    }

    #[test]
    fn a_line_spans_the_area_and_gaps_stay_open() {
        let canvas = chart(vec![(0.0, 1.0), (10.0, 1.0)]).draw(400, 200);
        assert!((LEFT + 2..300).all(|x| drawn_in(&canvas, x)));
        let gap = vec![(0.0, 1.0), (1.0, 2.0), (5.0, f64::NAN), (9.0, 2.0), (10.0, 1.0)];
        let canvas = chart(gap).draw(400, 200);
        assert!(!drawn_in(&canvas, 200));
    }

    #[test]
    fn nothing_to_show_is_not_an_error() {
        for points in [vec![], vec![(0.0, f64::NAN)], vec![(5.0, 3.0)], vec![(0.0, -1.0)]] {
            for log_y in [false, true] {
                LineChart { log_y, ..chart(points.clone()) }.draw(10, 10);
            }
        }
    }

    #[test]
    fn the_average_is_centred_and_skips_gaps() {
        let mut points: Vec<(f64, f64)> = (0..300).map(|i| (f64::from(i), f64::from(i))).collect();
        points[150].1 = f64::NAN;
        let smooth = moving_average(&points);
        assert_eq!((smooth[0].1, smooth[299].1, smooth[40].1), (0.0, 297.5, 40.0));
        assert!(smooth[150].1.is_nan() && (smooth[149].1 - 149.0).abs() < 1.0);
    }
}
