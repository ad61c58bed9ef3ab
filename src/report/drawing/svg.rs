//! The graph as SVG: a box for each stage, in rows by its longest path from a source.

use std::fmt::Write;

use super::{Colours, Drawing, Node};
use crate::report::escaped;

const WIDTH: usize = 168;
const HEIGHT: usize = 48;
const GAP: usize = 32;
const ROW: usize = 104;
const MARGIN: usize = 24;
/// The width of a character in an edge's label.
const CHARACTER: usize = 6;

impl Drawing {
    /// Renders a self-contained SVG document.
    pub fn svg(&self) -> String {
        let rows = self.rows();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let width = 2 * MARGIN + columns * (WIDTH + GAP) - GAP;
        let height = (2 * MARGIN + rows.len().max(1) * ROW).saturating_sub(ROW - HEIGHT);
        // The middle of the upper edge of each box.
        let mut positions = vec![(0, 0); self.stages.len()];
        for (row, stages) in rows.iter().enumerate() {
            let taken = stages.len() * (WIDTH + GAP) - GAP;
            let left = (width - taken) / 2;
            for (column, stage) in stages.iter().enumerate() {
                positions[*stage] = (left + column * (WIDTH + GAP) + WIDTH / 2, MARGIN + row * ROW);
            }
        }
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" text-anchor=\"middle\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for (from, to, what) in &self.edges {
            let ((x1, y1), (x2, y2)) = (positions[*from], positions[*to]);
            let (y1, bend) = (y1 + HEIGHT, (ROW - HEIGHT) / 2);
            let (x, y) = ((x1 + x2) / 2, (y1 + y2) / 2);
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "<path d=\"M{x1} {y1} C{x1} {} {x2} {} {x2} {y2}\" fill=\"none\" stroke=\"#888\"/>",
                y1 + bend,
                y2.saturating_sub(bend)
            );
            let (half, label) = (what.len() * CHARACTER / 2 + 2, escaped(what));
            let _ = writeln!(
                text,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"14\" fill=\"white\" opacity=\"0.85\"/>\
                 <text x=\"{x}\" y=\"{}\" font-size=\"11\" fill=\"#555\">{label}</text>",
                x.saturating_sub(half),
                y.saturating_sub(8),
                2 * half,
                y + 3
            );
        }
        for (Node { name, kind, status, colours: Colours(fill, stroke) }, (x, y)) in self.stages.iter().zip(positions) {
            let name = escaped(name);
            let _ = writeln!(
                text,
                "<rect x=\"{}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"{fill}\" stroke=\"{stroke}\"/>\
                 <text x=\"{x}\" y=\"{}\" font-size=\"14\" fill=\"#222\">{name}</text>\
                 <text x=\"{x}\" y=\"{}\" font-size=\"11\" fill=\"#555\">{kind}: {status}</text>",
                x - WIDTH / 2,
                y + 21,
                y + 38
            );
        }
        text + "</svg>\n"
    }

    /// Returns the stages by their longest path from a source.
    fn rows(&self) -> Vec<Vec<usize>> {
        let mut depths = vec![0; self.stages.len()];
        // Stages are in topological order, so one pass over the edges, sorted by their end, is enough.
        let mut edges: Vec<_> = self.edges.iter().collect();
        edges.sort_by_key(|(_, to, _)| *to);
        for (from, to, _) in edges {
            depths[*to] = depths[*to].max(depths[*from] + 1);
        }
        let mut rows = vec![Vec::new(); depths.iter().max().map_or(0, |deepest| deepest + 1)];
        for (stage, depth) in depths.into_iter().enumerate() {
            rows[depth].push(stage);
        }
        rows
    }
}
