//! Rate against quality, as a picture.

use tessera_codec::plot::{Canvas, LineChart, Series};

/// Size of one chart in pixels.
const CHART: (usize, usize) = (640, 400);

/// One coder's means: its name, and kbps with the figures at each of its rates.
pub struct Curve<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, Vec<f64>)>,
}

/// A chart for each of the `figures`, two beside each other, with a line for each coder.
pub fn draw(figures: &[(&str, &str)], curves: &[Curve<'_>]) -> Canvas {
    let (width, height) = CHART;
    let rows = figures.len().div_ceil(2);
    let mut canvas = Canvas::new(2 * width, rows * height, [255; 3]);
    for (i, (name, better)) in figures.iter().enumerate() {
        let series = curves.iter().map(|curve| {
            let mut points: Vec<_> =
                curve.points.iter().filter_map(|(kbps, f)| Some((*kbps, *f.get(i)?))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { name: curve.name.into(), points }
        });
        let chart = LineChart {
            title: format!("{name} ({better} is better)"),
            x_title: "kbps".into(),
            series: series.collect(),
            ..LineChart::default()
        };
        canvas.paste((i % 2 * width) as i32, (i / 2 * height) as i32, &chart.draw(width, height));
    }
    canvas
}
