//! Tables as Consul prints them: two blanks between columns, no trailing blanks (cli spec §1).

/// Lays `rows` out; the first is the header. Every row but the last ends with a line feed.
pub fn columns<R: AsRef<[String]>>(rows: &[R]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, cell) in row.as_ref().iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.as_ref().iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// A row from anything that can be shown.
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_the_widest_cell() {
        let rows = [row(["Node", "DC"]), row(["a-long-name", "x"]), row(["b", ""])];
        assert_eq!(columns(&rows), "Node         DC\na-long-name  x\nb");
        assert_eq!(columns::<Vec<String>>(&[]), "");
    }
}
