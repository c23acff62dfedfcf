//! Pictures, as SVG.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use fleetward_core::BoxError;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::runner::LEAST_NINES;
use crate::{Results, Row, SECOND, Scenario};

/// Draws what a scenario has to show into a folder; returns the names of the files.
///
/// # Errors
/// When a file cannot be written.
pub fn draw(
    scenario: &Scenario,
    results: &Results,
    folder: &Path,
) -> Result<Vec<String>, BoxError> {
    let mut files = Vec::new();
    if scenario.curve {
        let lines = lines(results, |row| &row.curve);
        let name = format!("{}-latency.svg", scenario.name);
        let labels = Labels {
            title: scenario.title,
            x: "part of the calls that took no longer, from 50 % on",
            y: "latency in milliseconds",
            x_text: |nines| quantile(*nines),
            y_text: number,
            y_marks: 11,
        };
        chart(&folder.join(&name), labels, &lines, LEAST_NINES..4.0, true)?;
        files.push(name);
    }
    if let Some(series) = &scenario.series {
        let lines = lines(results, |row| &row.series);
        let name = format!("{}-time.svg", scenario.name);
        let labels = Labels {
            title: scenario.title,
            x: "seconds",
            y: series.label,
            x_text: |seconds| format!("{seconds:.0}"),
            y_text: number,
            y_marks: 11,
        };
        let seconds = series.span as f64 / SECOND as f64;
        chart(&folder.join(&name), labels, &lines, 0.0..seconds, series.logarithmic)?;
        files.push(name);
    }
    Ok(files)
}

struct Labels<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    x_text: fn(&f64) -> String,
    y_text: fn(&f64) -> String,
    y_marks: usize,
}

struct Line<'a> {
    name: &'a str,
    color: RGBColor,
    dashed: bool,
    points: &'a [(f64, f64)],
}

const SIZE: (u32, u32) = (960, 480);
const LEGEND: u32 = 250;
const TEXT: (&str, u32) = ("sans-serif", 15);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// Okabe and Ito's colours, which the colour-blind can tell apart too; a balancer has the same one in
/// every picture, and a dashed line where it has something around it.
fn look(name: &str, spare: &mut impl Iterator<Item = RGBColor>) -> (RGBColor, bool) {
    let inner = name.strip_prefix("slow_start, ").or(name.strip_suffix(", detection"));
    let color = match inner.unwrap_or(name) {
        "round_robin" => Some(RGBColor(120, 120, 120)),
        "random" => Some(RGBColor(230, 159, 0)),
        "p2c" => Some(RGBColor(0, 114, 178)),
        "least_request?choices=all" => Some(RGBColor(0, 158, 115)),
        "peak_ewma" => Some(RGBColor(213, 94, 0)),
        "prequal (experiment)" => Some(RGBColor(204, 121, 167)),
        _ => spare.next(),
    };
    (color.unwrap_or(BLACK), inner.is_some())
}

fn lines(results: &Results, points: fn(&Row) -> &Vec<(f64, f64)>) -> Vec<Line<'_>> {
    let mut spare =
        [RGBColor(86, 180, 233), RGBColor(120, 94, 240), RGBColor(160, 130, 70)].into_iter();
    let rows = results.rows.iter();
    rows.map(|row| {
        let (color, dashed) = look(row.contender, &mut spare);
        Line { name: row.contender, color, dashed, points: points(row) }
    })
    .collect()
}

/// The quantile with so many nines, at whole numbers.
fn quantile(nines: f64) -> String {
    match nines.round() as i64 {
        whole if (nines - whole as f64).abs() > 1e-6 => String::new(),
        1 => "90 %".into(),
        2 => "99 %".into(),
        whole => format!("99.{} %", "9".repeat((whole - 2).clamp(0, 9) as usize)),
    }
}

fn chart(
    path: &Path,
    labels: Labels<'_>,
    lines: &[Line<'_>],
    x: Range<f64>,
    logarithmic: bool,
) -> Result<(), BoxError> {
    let points = || lines.iter().flat_map(|line| line.points);
    let top = points().map(|point| point.1).fold(0.0, f64::max).max(1e-3);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let (plot, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    draw_legend(&legend, lines).map_err(text)?;
    if logarithmic {
        let least = points().map(|point| point.1).filter(|&y| y > 0.0).fold(top, f64::min);
        let (bottom, top) = (round_down(least), round_up(top));
        let y_text = if top / bottom > 2e3 { decade } else { half_decade };
        let labels = Labels { y_text, y_marks: 60, ..labels };
        let y = (bottom..top).log_scale();
        draw_lines(&plot, &labels, lines, x, y).map_err(text)?;
    } else {
        draw_lines(&plot, &labels, lines, x, 0.0..top * 1.05).map_err(text)?;
    }
    root.present().map_err(text)
}

fn draw_lines<Y>(
    plot: &DrawingArea<SVGBackend<'_>, Shift>,
    labels: &Labels<'_>,
    lines: &[Line<'_>],
    x: Range<f64>,
    y: Y,
) -> Result<(), Box<dyn Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(plot)
        .caption(labels.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(labels.x)
        .y_desc(labels.y)
        .x_labels(8)
        .y_labels(labels.y_marks)
        .x_label_formatter(&labels.x_text)
        .y_label_formatter(&labels.y_text)
        .label_style(TEXT)
        .axis_desc_style(TEXT)
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .draw()?;
    let (left, least) = (chart.x_range().start, chart.y_range().start);
    for line in lines {
        // What lies below a logarithmic axis has no place on it.
        let shown = line.points.iter().filter(|point| point.0 >= left && point.1 >= least);
        let (shown, style) = (shown.copied(), line.color.stroke_width(2));
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(shown, 7, 4, style))?;
        } else {
            chart.draw_series(LineSeries::new(shown, style))?;
        }
    }
    Ok(())
}

/// Down to 1, 2 or 5 times a power of ten.
fn round_down(y: f64) -> f64 {
    let decade = 10f64.powf(y.log10().floor());
    [5.0, 2.0].into_iter().map(|step| step * decade).find(|&mark| mark <= y).unwrap_or(decade)
}

fn round_up(y: f64) -> f64 {
    let decade = 10f64.powf(y.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * decade).find(|&mark| mark >= y).unwrap_or(y)
}

fn number(y: &f64) -> String {
    let digits = if *y == 0.0 || *y >= 10.0 { 0 } else { 1 };
    format!("{y:.digits$}")
}

/// Powers of ten only, and nothing at the other marks.
fn decade(y: &f64) -> String {
    if is_mark(*y, &[1.0]) { number(y) } else { String::new() }
}

fn half_decade(y: &f64) -> String {
    if is_mark(*y, &[1.0, 2.0, 5.0]) { number(y) } else { String::new() }
}

fn is_mark(y: f64, steps: &[f64]) -> bool {
    let step = y / 10f64.powf((y.log10() + 1e-9).floor());
    steps.iter().any(|mark| (step - mark).abs() < 1e-6)
}

fn draw_legend(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    lines: &[Line<'_>],
) -> Result<(), Box<dyn Error>> {
    let mut y = 56;
    for line in lines {
        let strokes: &[(i32, i32)] = if line.dashed { &[(0, 11), (16, 27)] } else { &[(0, 27)] };
        for &(from, to) in strokes {
            area.draw(&PathElement::new([(from, y), (to, y)], line.color.stroke_width(3)))?;
        }
        area.draw(&Text::new(line.name, (35, y - 8), TEXT))?;
        y += 26;
    }
    Ok(())
}

/// Plotters' errors may hold what is not `Send`.
#[allow(clippy::needless_pass_by_value)]
fn text(error: impl ToString) -> BoxError {
    error.to_string().into()
}
