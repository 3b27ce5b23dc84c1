//! A drawing of series for the terminal: lines of characters, a scale with units, times below.

use paramedic_api::unit::Unit;
use paramedic_model::Timestamp;

/// Rows of the drawing.
const ROWS: usize = 13;
/// Rows between two words of the scale.
const STRIDE: usize = 3;
/// Series that are drawn, each with a mark of its own.
pub(crate) const MARKS: [char; 8] = ['•', '+', 'x', 'o', '*', '#', '=', '%'];

/// A series: milliseconds and values in order of time.
pub(crate) type Points = Vec<(i64, f64)>;

/// Draws up to eight series between two times. What is not finite is a gap.
pub(crate) fn draw(series: &[Points], from_ms: i64, to_ms: i64, unit: Unit, width: usize) -> Vec<String> {
    let values = || series.iter().take(MARKS.len()).flatten().map(|point| point.1).filter(|value| value.is_finite());
    let (low, high) = bounds(values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let labels: Vec<String> = (0..ROWS).map(|row| label(row, low, high, unit)).collect();
    let gutter = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let columns = width.saturating_sub(gutter + 3).max(10);
    let mut grid = vec![vec![' '; columns]; ROWS];
    for (points, mark) in series.iter().zip(MARKS) {
        trace(&mut grid, points, (from_ms, to_ms), (low, high), mark);
    }
    let mut lines: Vec<String> = Vec::with_capacity(ROWS + 2);
    for (label, row) in labels.iter().zip(&grid) {
        let tick = if label.is_empty() { '│' } else { '┤' };
        lines.push(format!("{label:>gutter$} {tick}{}", row.iter().collect::<String>()).trim_end().to_owned());
    }
    lines.push(format!("{:gutter$} └{}", "", "─".repeat(columns)));
    lines.push(times(from_ms, to_ms, gutter + 2, columns));
    lines
}

/// Round ends of the scale: zero belongs to it unless all values are far from it, and it has some height.
fn bounds(low: f64, high: f64) -> (f64, f64) {
    if !low.is_finite() || !high.is_finite() {
        return (0.0, 1.0);
    }
    let spread = high - low;
    let low = if low > 0.0 && (low < spread * 4.0 || spread == 0.0) { 0.0 } else { low };
    let high = if high < 0.0 && (-high < spread * 4.0 || spread == 0.0) { 0.0 } else { high };
    let high = if high > low { high } else { low + 1.0 };
    let parts = share((ROWS - 1) / STRIDE, 1);
    let mut power = 10f64.powf(((high - low) / parts).log10().floor());
    for _ in 0..3 {
        for factor in [1.0, 2.0, 2.5, 5.0] {
            let step = factor * power;
            let from = (low / step).floor() * step;
            if step > 0.0 && from + parts * step >= high - step * 1e-9 {
                return (from, from + parts * step);
            }
        }
        power *= 10.0;
    }
    (low, high)
}

/// The words of a row of the scale.
fn label(row: usize, low: f64, high: f64, unit: Unit) -> String {
    let last = ROWS - 1;
    if (last - row).is_multiple_of(STRIDE) { unit.show(low + (high - low) * share(last - row, last)) } else { String::new() }
}

#[expect(clippy::cast_precision_loss, reason = "cells of a terminal")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Puts a series into the grid: one mark for each column that has a value, joined upwards and downwards.
fn trace(grid: &mut [Vec<char>], points: &[(i64, f64)], (from_ms, to_ms): (i64, i64), (low, high): (f64, f64), mark: char) {
    let columns = grid.first().map_or(0, Vec::len);
    // What lies further apart than two steps is a gap.
    let step = points.windows(2).map(|pair| pair[1].0 - pair[0].0).min().unwrap_or(0);
    let mut before: Option<(i64, usize, usize)> = None;
    for (ms, value) in points {
        if !value.is_finite() {
            before = None;
            continue;
        }
        let column = place(number(ms - from_ms) / number(to_ms - from_ms).max(1.0), columns);
        let row = ROWS - 1 - place((value - low) / (high - low), ROWS);
        grid[row][column] = mark;
        if let Some((_, start, beside)) = before.filter(|before| ms - before.0 < 2 * step) {
            grid[beside][start..column.max(start)].fill(mark);
            grid[row.min(beside)..=row.max(beside)].iter_mut().for_each(|cells| cells[column] = mark);
        }
        before = Some((*ms, column, row));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time for a drawing")]
fn number(ms: i64) -> f64 {
    ms as f64
}

/// The cell of a share, 0 to 1.
fn place(share: f64, cells: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "within bounds")]
    let cell = (share.clamp(0.0, 1.0) * (cells.saturating_sub(1)) as f64).round() as usize;
    cell.min(cells.saturating_sub(1))
}

/// Three times below the axis.
fn times(from_ms: i64, to_ms: i64, indent: usize, columns: usize) -> String {
    let (from, to) = (Timestamp::from_millis(from_ms), Timestamp::from_millis(to_ms));
    let word = |at: Timestamp| {
        let clock = at.time_of_day();
        if from.date() == to.date() { clock } else { format!("{} {}", &at.date()[5..], &clock[..5]) }
    };
    let (left, middle, right) = (word(from), word(Timestamp::from_millis(from_ms + (to_ms - from_ms) / 2)), format!("{} UTC", word(to)));
    let room = columns.saturating_sub(left.len() + right.len());
    if room < middle.len() + 4 {
        return format!("{:indent$}{left}{:>room$}", "", right, room = columns.saturating_sub(left.len()));
    }
    let before = (columns / 2).saturating_sub(left.len() + middle.len() / 2);
    let after = room - before - middle.len();
    format!("{:indent$}{left}{:before$}{middle}{:after$}{right}", "", "", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner_with_its_scale() {
        let points: Points = (0..=100).map(|i| (i * 1_000, f64::from(i as i32))).collect();
        let lines = draw(&[points], 0, 100_000, Unit::Plain, 60);
        assert_eq!(lines.len(), ROWS + 2);
        assert!(lines[0].starts_with("  100 ┤") || lines[0].starts_with("100 ┤"), "{lines:#?}");
        assert!(lines[0].ends_with('•') && lines[ROWS - 1].contains("┤•"), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 60), "{lines:#?}");
        assert!(lines[ROWS + 1].contains("00:00:00") && lines[ROWS + 1].ends_with("00:01:40 UTC"), "{lines:#?}");
    }

    #[test]
    fn gaps_and_odd_values_do_no_harm() {
        for points in
            [vec![], vec![(0, f64::NAN)], vec![(0, 3.0)], vec![(0, -1.0), (1, f64::INFINITY), (2, 1e300)], vec![(5, 0.0), (6, 0.0)]]
        {
            let lines = draw(&[points], 0, 10, Unit::Bytes, 40);
            assert_eq!(lines.len(), ROWS + 2);
        }
        let two = draw(&[vec![(0, 1.0), (10, 1.0)], vec![(0, 2.0), (10, 2.0)]], 0, 10, Unit::Plain, 40);
        assert!(two.iter().any(|line| line.contains('•')) && two.iter().any(|line| line.contains('+')), "{two:#?}");
    }
}
