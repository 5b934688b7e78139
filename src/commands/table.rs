//! Columns for people: as wide as their widest cell, the last one as long as it likes.

use std::io::{self, Write};

/// Writes a heading and rows, each with as many cells as the heading has.
pub(super) fn write(
    out: &mut impl Write,
    heading: &[&str],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let heading: Vec<String> = heading.iter().map(|&name| name.to_owned()).collect();
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            let cells = rows.iter().chain([&heading]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in [&heading].into_iter().chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// A cell for a text that may have several lines, or none at all.
pub(super) fn cell(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["ü".to_owned(), "x".to_owned()], vec!["long".to_owned(), String::new()]];
        let mut out = Vec::new();
        write(&mut out, &["A", "B"], &rows).expect("written");
        assert_eq!(String::from_utf8_lossy(&out), "A     B\nü     x\nlong\n");
    }
}
