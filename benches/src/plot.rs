//! Plots as SVG.

use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::error::Result;
use crate::measure::short;
use crate::section::{Bar, Bars, Line, Plot};

const SIZE: (u32, u32) = (900, 520);

/// Writes a plot to a file.
pub(crate) fn draw(plot: &Plot, path: &Path) -> Result<()> {
    let (x, y) = (range(plot, |point| point.0), range(plot, |point| point.1));
    match (plot.x.logarithmic, plot.y.logarithmic) {
        (false, false) => draw_on(plot, path, x, y),
        (true, false) => draw_on(plot, path, x.log_scale(), y),
        (false, true) => draw_on(plot, path, x, y.log_scale()),
        (true, true) => draw_on(plot, path, x.log_scale(), y.log_scale()),
    }
}

/// Writes bars to a file: each one's name, the bar, and its figure behind it.
pub(crate) fn draw_bars(picture: &Bars, path: &Path) -> Result<()> {
    const LINE: i32 = 30;
    const NAMES: i32 = 360;
    const LONGEST: f64 = 440.0;
    let height = 60 + LINE * i32::try_from(picture.bars.len())?;
    let area = SVGBackend::new(path, (SIZE.0, height.try_into()?)).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(&picture.title, ("sans-serif", 20))?;
    let most = picture.bars.iter().map(|bar| bar.figure).fold(f64::MIN_POSITIVE, f64::max);
    for (i, Bar { name, figure, is_peer }) in (0..).zip(&picture.bars) {
        let (top, length) = (10 + LINE * i, (figure / most * LONGEST) as i32);
        let end = NAMES + length.max(1);
        let style = Palette99::pick(2 + usize::from(*is_peer)).filled();
        area.draw(&Rectangle::new([(NAMES, top), (end, top + LINE - 10)], style))?;
        let font = ("sans-serif", 14).into_font();
        area.draw(&Text::new(name.replace('`', ""), (12, top + 3), font.clone()))?;
        area.draw(&Text::new(short(*figure), (end + 6, top + 3), font))?;
    }
    area.present()?;
    Ok(())
}

/// From the least to the greatest value; a linear axis begins at zero.
fn range(plot: &Plot, side: impl Fn(&(f64, f64)) -> f64) -> Range<f64> {
    let values = plot.lines.iter().flat_map(|line| &line.points).map(&side);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low > high { 0.1..1.0 } else { (low * 0.9).max(1e-9)..(high * 1.1).max(low + 1e-6) }
}

fn draw_on<X, Y>(plot: &Plot, path: &Path, x: X, y: Y) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&plot.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    chart.configure_mesh().x_desc(&plot.x.label).y_desc(&plot.y.label).draw()?;
    for (i, Line { name, points }) in plot.lines.iter().enumerate() {
        let color = Palette99::pick(i).to_rgba();
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    let box_style = WHITE.mix(0.8);
    chart.configure_series_labels().background_style(box_style).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
