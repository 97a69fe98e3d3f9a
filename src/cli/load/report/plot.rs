//! Line plots as SVG, for a page or as a file of their own. Colours are classes, so that light and dark both suit.

use std::fmt::Write as _;

use super::scale::Scale;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const BOTTOM: f64 = 46.0;
/// The title, and then a row of the legend for each.
const TITLE_HEIGHT: f64 = 30.0;
const LEGEND_ROW: f64 = 18.0;
const GAP: f64 = 12.0;
/// The width of a letter of the legend, more or less.
const LETTER: f64 = 7.2;
/// The legend's line before a name, with the space around it.
const KEY: f64 = 40.0;
/// Lines of more points have no dots.
const DOTS_MAX: usize = 40;
/// Colours told apart; then they repeat.
const COLOURS: usize = 8;

/// What colours need, for pages and for files.
pub(super) const STYLE: &str = "\
svg.plot{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;--ink:#1f2430;--soft:#667085;--rule:#e4e7ec;\
--c0:#2563eb;--c1:#d9730d;--c2:#0f9d6b;--c3:#c2334d;--c4:#7c3aed;--c5:#0891b2;--c6:#a16207;--c7:#64748b}\
svg.plot text{fill:var(--soft)}svg.plot .title{fill:var(--ink);font-weight:600;font-size:15px}\
svg.plot .key{fill:var(--ink)}\
svg.plot .rule{stroke:var(--rule);stroke-width:1}svg.plot .base{stroke:var(--soft);stroke-width:1}\
svg.plot .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
svg.plot .dashed{stroke-dasharray:5 4}svg.plot .bar{stroke-width:1.5;opacity:.55}\
svg.plot .c0{stroke:var(--c0)}svg.plot .c1{stroke:var(--c1)}svg.plot .c2{stroke:var(--c2)}\
svg.plot .c3{stroke:var(--c3)}svg.plot .c4{stroke:var(--c4)}svg.plot .c5{stroke:var(--c5)}\
svg.plot .c6{stroke:var(--c6)}svg.plot .c7{stroke:var(--c7)}\
svg.plot .f0{fill:var(--c0)}svg.plot .f1{fill:var(--c1)}svg.plot .f2{fill:var(--c2)}svg.plot .f3{fill:var(--c3)}\
svg.plot .f4{fill:var(--c4)}svg.plot .f5{fill:var(--c5)}svg.plot .f6{fill:var(--c6)}svg.plot .f7{fill:var(--c7)}\
@media(prefers-color-scheme:dark){svg.plot{--ink:#e6e9ef;--soft:#98a2b3;--rule:#2b313c;--c0:#6ea0ff;--c1:#f2a65a;\
--c2:#4cc79a;--c3:#f0788c;--c4:#b397ff;--c5:#4dc3dc;--c6:#d9b44a;--c7:#a3afc0}}";
/// A file of its own brings its background, as it may be shown on any.
const FILE_STYLE: &str =
    "svg.plot .paper{fill:#fff}@media(prefers-color-scheme:dark){svg.plot .paper{fill:#14171d}}";

/// One line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) name: String,
    /// Lines of one colour belong together.
    pub(super) colour: usize,
    pub(super) dashed: bool,
    /// x rising.
    pub(super) points: Vec<(f64, f64)>,
    /// x, least and most, where a point stands for several values.
    pub(super) bars: Vec<(f64, f64, f64)>,
}

/// One plot.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    /// What is on the axes, with the unit.
    pub(super) x_name: String,
    pub(super) y_name: String,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) lines: Vec<Line>,
}

impl Plot {
    /// The SVG element; its style must be in the page.
    pub(super) fn element(&self) -> String {
        self.drawn(false)
    }

    /// An SVG file.
    pub(super) fn file(&self) -> String {
        self.drawn(true)
    }

    fn drawn(&self, as_file: bool) -> String {
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = self.draw(&mut out, as_file);
        out
    }

    fn draw(&self, out: &mut String, as_file: bool) -> std::fmt::Result {
        let (legend, rows) = self.legend();
        let top = TITLE_HEIGHT + rows * LEGEND_ROW + GAP;
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let x_at = |value: f64| LEFT + self.x.place(value) * (right - LEFT);
        let y_at = |value: f64| bottom - self.y.place(value) * (bottom - top);
        let title = escape(&self.title);
        write!(
            out,
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}\">"
        )?;
        if as_file {
            write!(out, "<style>{STYLE}{FILE_STYLE}</style>")?;
            write!(out, "<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>")?;
        }
        write!(out, "<text class=\"title\" x=\"{LEFT}\" y=\"20\">{title}</text>{legend}")?;
        for (value, label) in &self.y.ticks {
            let y = y_at(*value);
            let label = escape(label);
            write!(out, "<line class=\"rule\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
            write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 8.0,
                y + 4.0
            )?;
        }
        for (value, label) in &self.x.ticks {
            let x = x_at(*value);
            let label = escape(label);
            write!(
                out,
                "<line class=\"base\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>",
                bottom + 4.0
            )?;
            write!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            )?;
        }
        write!(out, "<line class=\"base\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>")?;
        let (middle, below) = (f64::midpoint(LEFT, right), HEIGHT - 8.0);
        write!(
            out,
            "<text x=\"{middle:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{}</text>",
            escape(&self.x_name)
        )?;
        let centre = f64::midpoint(top, bottom);
        write!(
            out,
            "<text transform=\"translate(14 {centre:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(&self.y_name)
        )?;
        for line in &self.lines {
            let colour = line.colour % COLOURS;
            for (x, least, most) in &line.bars {
                let (x, low, high) = (x_at(*x), y_at(*least), y_at(*most));
                write!(
                    out,
                    "<path class=\"bar c{colour}\" d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\"/>",
                    x - 4.0,
                    x - 4.0
                )?;
            }
            let points: Vec<String> =
                line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y))).collect();
            let dashed = if line.dashed { " dashed" } else { "" };
            write!(out, "<polyline class=\"line c{colour}{dashed}\" points=\"{}\"/>", points.join(" "))?;
            if line.points.len() <= DOTS_MAX {
                for (x, y) in &line.points {
                    let shown = escape(&format!("{}: {}", line.name, super::series::number(*y)));
                    write!(
                        out,
                        "<circle class=\"f{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>{shown}</title></circle>",
                        x_at(*x),
                        y_at(*y)
                    )?;
                }
            }
        }
        write!(out, "</svg>")
    }

    /// The names of the lines in rows, and how many rows these are.
    fn legend(&self) -> (String, f64) {
        let mut out = String::new();
        let (mut x, mut y, mut rows) = (LEFT, TITLE_HEIGHT + 12.0, 1.0);
        for line in &self.lines {
            let width = KEY + LETTER * line.name.chars().count() as f64;
            if x > LEFT && x + width > WIDTH - RIGHT {
                (x, y, rows) = (LEFT, y + LEGEND_ROW, rows + 1.0);
            }
            let (colour, dashed) = (line.colour % COLOURS, if line.dashed { " dashed" } else { "" });
            // Writing to a String can't fail.
            let _ = write!(
                out,
                "<line class=\"line c{colour}{dashed}\" x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"key\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                x + 18.0,
                y - 4.0,
                y - 4.0,
                x + 24.0,
                escape(&line.name)
            );
            x += width;
        }
        (out, rows)
    }
}

/// For element content and for attributes in quotes. Control characters, which XML has no place for, are left out.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() && !matches!(letter, '\n' | '\t') => {}
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_markup_is_escaped() {
        assert_eq!(escape(r#"<b a="1">&'"#), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert_eq!(escape("a\0\u{1b}b\nc"), "ab\nc");
    }

    #[test]
    fn lines_lie_within_the_picture() {
        let line = Line {
            name: "<script>".to_owned(),
            points: vec![(0.0, 1.0), (5.0, 20.0), (10.0, 1e9)],
            bars: vec![(5.0, 10.0, 30.0)],
            ..Line::default()
        };
        let plot = Plot {
            title: "a & b".to_owned(),
            x_name: "seconds".to_owned(),
            y_name: "ms".to_owned(),
            x: Scale::exact(0.0, 10.0),
            y: Scale::from_zero([20.0]),
            lines: vec![line],
        };
        let svg = plot.file();
        assert!(svg.contains("a &amp; b") && !svg.contains("<script>"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && svg.contains("xmlns"));
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').expect("a pair");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!plot.element().contains("<style>"), "the page has it");
    }

    #[test]
    fn a_long_legend_takes_more_rows() {
        let line = |at: usize| Line { name: format!("a rather long name of line {at}"), ..Line::default() };
        let plot = Plot {
            title: String::new(),
            x_name: String::new(),
            y_name: String::new(),
            x: Scale::exact(0.0, 1.0),
            y: Scale::from_zero([1.0]),
            lines: (0..6).map(line).collect(),
        };
        assert!(plot.legend().1 >= 2.0);
    }
}
