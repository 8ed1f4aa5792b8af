//! A picture of cost against quality, in SVG.

use std::fmt::Write;
use std::path::Path;

use crate::error::BackendError;

/// Curves over two shares.
pub(crate) struct Picture {
    pub title: &'static str,
    pub x: &'static str,
    pub y: &'static str,
    pub curves: Vec<Curve>,
    /// Points that are named.
    pub marks: Vec<(&'static str, (f64, f64))>,
}

/// Points in their order.
pub(crate) struct Curve {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 30.0;
const BOTTOM: f64 = 60.0;
const COLOURS: [&str; 3] = ["#1b6ca8", "#c0392b", "#7f8c8d"];
const LINES: usize = 5;

/// Writes the picture to a file.
pub(crate) fn write(path: &Path, picture: &Picture) -> Result<(), BackendError> {
    std::fs::write(path, picture.svg()).map_err(|source| BackendError::Io {
        what: path.display().to_string(),
        source,
    })
}

impl Picture {
    fn svg(&self) -> String {
        let all = self.curves.iter().flat_map(|curve| &curve.points);
        let all = all.chain(self.marks.iter().map(|(_, point)| point));
        let (mut x_max, mut y_max) = (0.01_f64, 0.01_f64);
        for (x, y) in all {
            (x_max, y_max) = (x_max.max(*x), y_max.max(*y));
        }
        let place = |(x, y): (f64, f64)| {
            let right = LEFT + x / x_max * (WIDTH - LEFT - RIGHT);
            (right, HEIGHT - BOTTOM - y / y_max * (HEIGHT - TOP - BOTTOM))
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, (WIDTH / 2.0, 22.0), "middle", self.title);
        text(&mut svg, (WIDTH / 2.0, HEIGHT - 16.0), "middle", self.x);
        text(&mut svg, (LEFT, TOP - 6.0), "end", self.y);
        grid(&mut svg, (x_max, y_max), &place);
        for (index, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<String> = curve
                .points
                .iter()
                .map(|point| place(*point))
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.join(" ")
            );
            let y = TOP + 16.0 * (index as f64 + 1.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>",
                LEFT + 10.0,
                y - 5.0
            );
            text(&mut svg, (LEFT + 28.0, y), "start", curve.name);
        }
        for (name, point) in &self.marks {
            let (x, y) = place(*point);
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
            text(&mut svg, (x - 6.0, y - 8.0), "end", name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Lines with their shares.
fn grid(svg: &mut String, (x_max, y_max): (f64, f64), place: &dyn Fn((f64, f64)) -> (f64, f64)) {
    for line in 0..=LINES {
        let share = line as f64 / LINES as f64;
        let (x, y) = place((share * x_max, share * y_max));
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>"
        );
        text(svg, (LEFT - 6.0, y + 4.0), "end", &percent(share * y_max));
        text(svg, (x, bottom + 16.0), "middle", &percent(share * x_max));
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}
