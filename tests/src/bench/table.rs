//! Figures of both sides and their ratio.

use std::{collections::BTreeMap, fmt};

use crate::subject::Kind;

/// A figure's name and unit.
type Name = (&'static str, &'static str);

/// All figures, by what was measured.
#[derive(Debug, Default)]
pub struct Table {
    order: Vec<Name>,
    values: BTreeMap<Name, [Vec<f64>; 2]>,
}

impl Table {
    /// Adds one measured value.
    pub fn put(&mut self, what: &'static str, unit: &'static str, side: Kind, value: f64) {
        let name = (what, unit);
        let row = self.values.entry(name).or_insert_with(|| {
            self.order.push(name);
            Default::default()
        });
        row[usize::from(side == Kind::Consul)].push(value);
    }
}

/// The middle value; `None` of none.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measured (medians) | unit | lictor | consul 1.8.7 | ratio |")?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        for name in &self.order {
            let (what, unit) = name;
            match self.values[name].each_ref().map(|values| median(values)) {
                [Some(ours), Some(theirs)] => {
                    writeln!(f, "| {what} | {unit} | {ours:.2} | {theirs:.2} | {:.3} |", ours / theirs)?;
                }
                [ours, theirs] => {
                    let cell = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
                    writeln!(f, "| {what} | {unit} | {} | {} | |", cell(ours), cell(theirs))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_medians_and_their_ratio_in_order_of_appearance() {
        let mut table = Table::default();
        for value in [3.0, 1.0, 2.0] {
            table.put("time", "ms", Kind::Lictor, value);
        }
        table.put("alone", "MiB", Kind::Lictor, 5.0);
        table.put("time", "ms", Kind::Consul, 8.0);
        let text = table.to_string();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows, ["| time | ms | 2.00 | 8.00 | 0.250 |", "| alone | MiB | 5.00 | – | |"]);
    }
}
