//! Charts as SVG. Colours are those of the light page; the style sheet replaces them in the dark.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;

/// Drawing units; the page scales them to its width.
const WIDTH: u32 = 840;
const HEIGHT: u32 = 280;
const FONT: (&str, i32) = ("sans-serif", 14);

/// Named in `style.css` too.
const TEXT: RGBColor = RGBColor(0x55, 0x5B, 0x66);
const GRID: RGBColor = RGBColor(0xE3, 0xE6, 0xEA);
const FRAME: RGBColor = RGBColor(0xB4, 0xBA, 0xC4);
/// The series, first to last, and round again.
pub const SERIES: [RGBColor; 6] = [
    RGBColor(0x1F, 0x6F, 0xD1),
    RGBColor(0xD9, 0x6C, 0x06),
    RGBColor(0x2A, 0x9D, 0x4E),
    RGBColor(0xB0, 0x3A, 0x8E),
    RGBColor(0x7A, 0x5C, 0x00),
    RGBColor(0x0E, 0x8A, 0x9C),
];

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    /// Which of [`SERIES`].
    pub color: usize,
    /// Drawn as dots, unconnected.
    pub dots: bool,
    pub points: Vec<(f64, f64)>,
}

impl Line {
    pub fn new(name: &str, color: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), color, dots: false, points }
    }
}

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a chart could not be drawn: {0}")]
pub struct ChartError(String);

/// An axis as the plotting library wants it: a straight scale with ticks of our own.
struct Scale<'a>(&'a Axis);

impl Ranged for Scale<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.0.from) / (self.0.to - self.0.from);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.0.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.0.from..self.0.to
    }
}

impl ValueFormatter<f64> for Scale<'_> {
    fn format_ext(&self, value: &f64) -> String {
        (self.0.label)(*value)
    }
}

/// Draws `lines` as an SVG element.
pub fn draw(x: &Axis, y: &Axis, lines: &[Line]) -> Result<String, ChartError> {
    let mut svg = String::new();
    draw_into(&mut svg, x, y, lines).map_err(|error| ChartError(error.to_string()))?;
    Ok(svg)
}

type Drawing<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn draw_into<'a>(
    svg: &'a mut String,
    x: &Axis,
    y: &Axis,
    lines: &[Line],
) -> Result<(), Drawing<'a>> {
    let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin_top(12)
        .margin_right(24)
        .set_label_area_size(LabelAreaPosition::Left, if y.title.is_empty() { 62 } else { 84 })
        .set_label_area_size(LabelAreaPosition::Bottom, if x.title.is_empty() { 28 } else { 48 })
        .build_cartesian_2d(Scale(x), Scale(y))?;
    let text = FONT.into_font().color(&TEXT);
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(FRAME)
        .label_style(text.clone())
        .axis_desc_style(text.pos(Pos::new(HPos::Center, VPos::Center)))
        .x_desc(x.title.as_str())
        .y_desc(y.title.as_str())
        .draw()?;
    for line in lines {
        let color = SERIES[line.color % SERIES.len()];
        let inside = |(px, py): &(f64, f64)| (px.clamp(x.from, x.to), py.clamp(y.from, y.to));
        let points: Vec<_> = line.points.iter().map(inside).collect();
        if line.dots || points.len() == 1 {
            let dot = |point: &(f64, f64)| Circle::new(*point, 4, color.filled());
            chart.draw_series(points.iter().map(dot))?;
        } else {
            chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        }
    }
    root.present()
}

#[cfg(test)]
mod tests {
    use super::super::axis::count;
    use super::*;

    #[test]
    fn a_chart_has_its_lines_ticks_and_titles() {
        let x = Axis::seconds("time <s>", 10.0);
        let y = Axis::numbers("messages/s", 100.0, count);
        let line = Line::new("a", 0, vec![(0.0, 50.0), (5.0, 100.0), (20.0, f64::MAX)]);
        let lonely = Line::new("b", 7, vec![(1.0, 1.0)]);
        let svg = draw(&x, &y, &[line, lonely]).unwrap();
        for part in ["<svg", "polyline", "circle", "#1F6FD1", "#D96C06", "messages/s", "10 s"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(svg.contains("&lt;s&gt;") && !svg.contains("<s>"), "{svg}");
        assert!(!draw(&x, &y, &[]).unwrap().contains("#1F6FD1"));
    }
}
