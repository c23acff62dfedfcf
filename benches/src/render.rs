//! The document: `benchmarks.md` and its plots, from what the rows found.

use std::fmt::Write as _;
use std::path::Path;

use crate::section::{Section, Table, Target};
use crate::{Result, machine, plot, rows};

/// What the figures depend on, beside the machine.
const VERSIONS: &[&str] = &["hyper", "pingora-load-balancing", "tokio", "tonic", "tower", "volo"];

/// Writes the document from the sections in `results`.
pub(crate) fn write(results: &Path, docs: &Path) -> Result<()> {
    let mut sections = Vec::new();
    for row in rows::ALL {
        match std::fs::read(results.join(format!("{}.json", row.name))) {
            Ok(bytes) => sections.push((row, serde_json::from_slice::<Section>(&bytes)?)),
            Err(_) => eprintln!("render: no results for {}", row.name),
        }
    }
    if sections.is_empty() {
        return Err("there are no results".into());
    }
    if let Some((row, _)) = sections.iter().find(|(_, section)| section.brief) {
        return Err(format!("{} comes from a brief run", row.name).into());
    }
    let plots = docs.join("benchmarks");
    std::fs::create_dir_all(&plots)?;
    for picture in sections.iter().flat_map(|(_, section)| &section.plots) {
        plot::draw(picture, &plots.join(format!("{}.svg", picture.name)))?;
    }
    std::fs::write(docs.join("benchmarks.md"), document(&sections))?;
    Ok(())
}

fn document(sections: &[(&rows::Row, Section)]) -> String {
    let mut text = String::from(INTRODUCTION);
    let _ = writeln!(text, "\nVersions: {}.\n", machine::versions(VERSIONS).join(", "));
    text.push_str(&machines(sections));
    text.push_str(&targets(sections.iter().flat_map(|(_, section)| &section.targets)));
    for (row, section) in sections {
        text.push_str(&markdown(row.title, section));
    }
    text
}

/// Where and when each section was made; once if all were made together.
fn machines(sections: &[(&rows::Row, Section)]) -> String {
    let mut table = Table::new(
        "",
        ["section", "date", "processor", "cores", "system", "rustc", "commit", "load"],
    );
    for (row, section) in sections {
        let Some(m) = &section.made_on else { continue };
        let cores = m.cores.to_string();
        table.push([
            row.name,
            &m.date,
            &m.processor,
            &cores,
            &m.system,
            &m.rustc,
            &m.commit,
            &m.load,
        ]);
    }
    rendered(&table)
}

fn targets<'a>(targets: impl Iterator<Item = &'a Target>) -> String {
    let mut table = Table::new("", ["target", "goal", "measured", "met"]);
    for target in targets {
        let met = if target.met { "yes" } else { "**no**" };
        table.push([target.what.as_str(), &target.goal, &target.measured, met]);
    }
    if table.rows.is_empty() {
        String::new()
    } else {
        format!("\n## Targets\n{}", rendered(&table))
    }
}

/// A section as Markdown.
pub(crate) fn markdown(title: &str, section: &Section) -> String {
    let mut text = format!("\n## {title}\n\n{}\n", section.intro.trim());
    for table in &section.tables {
        text.push_str(&rendered(table));
    }
    for plot in &section.plots {
        let _ = writeln!(text, "\n![{}](benchmarks/{}.svg)", plot.title, plot.name);
    }
    for skipped in &section.skipped {
        let _ = writeln!(text, "\nNot measured: {skipped}");
    }
    text
}

fn rendered(table: &Table) -> String {
    let mut text =
        if table.caption.is_empty() { "\n".to_owned() } else { format!("\n{}\n\n", table.caption) };
    let _ = writeln!(text, "| {} |", table.head.join(" | "));
    let _ = writeln!(text, "|---{}|", "|---:".repeat(table.head.len().saturating_sub(1)));
    for row in &table.rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

const INTRODUCTION: &str = "# Benchmarks

Made by one command, `./scripts/bench`; do not edit. Contenders of a table are measured in the same run, in
interleaved rounds; a figure is the median over the rounds, with the quartiles in parentheses where there is room.
Trust the ratios more than the nanoseconds.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_becomes_a_heading_tables_and_what_was_skipped() {
        let mut table = Table::new("Costs", ["what", "ns"]);
        table.push(["this", "12"]);
        let section = Section {
            intro: "Why.".to_owned(),
            tables: vec![table],
            skipped: vec!["go: no toolchain".to_owned()],
            ..Section::default()
        };
        let expected = "\n## Title\n\nWhy.\n\nCosts\n\n| what | ns |\n|---|---:|\n| this | 12 |\n\
                        \nNot measured: go: no toolchain\n";
        assert_eq!(markdown("Title", &section), expected);
    }
}
